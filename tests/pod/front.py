"""A TLS proxy in front of an HTTP server, like a cloud's gateway.

    python3 front.py CERTIFICATE KEY ADDRESS PORT TARGET_PORT

Listens on ADDRESS:PORT, and forwards to TARGET_PORT of 127.0.0.1.
"""

import asyncio
import ssl
import sys

certificate, key, address, port, target_port = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)


async def pour(source, sink):
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    except OSError:
        pass  # one side has closed the connection
    finally:
        sink.close()


async def pass_on(client, to_client):
    try:
        target, to_target = await asyncio.open_connection("127.0.0.1", int(target_port))
    except OSError:
        to_client.close()
        return
    await asyncio.gather(pour(client, to_target), pour(target, to_client))


async def main():
    server = await asyncio.start_server(pass_on, address, int(port), ssl=context)
    await server.serve_forever()


asyncio.run(main())
