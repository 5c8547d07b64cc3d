"""A fake cloud with TLS: it refuses every request, and logs host, path and token.

    python3 cloud.py CERTIFICATE KEY LOG

Listens on port 443 of 127.0.0.1 and of ::1.
"""

import http.server
import socket
import ssl
import sys
import threading

certificate, key, log = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)


class Refusal(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        with open(log, "a", encoding="utf-8") as lines:
            print(self.headers["host"], self.path, self.headers.get("x-auth-token"), file=lines)
        body = b'{"error":{"error_code":"KMS.0301","error_msg":"not here"}}'
        self.send_response(403)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, *_):
        pass


def serve(family, address):
    class Server(http.server.ThreadingHTTPServer):
        address_family = family

        def handle_error(self, request, client_address):
            """A client that does not trust the certificate turns away."""

    server = Server((address, 443), Refusal)
    # Each thread makes its own handshake: a client that does not finish it blocks no other.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever).start()


serve(socket.AF_INET, "127.0.0.1")
serve(socket.AF_INET6, "::1")
