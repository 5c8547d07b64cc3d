"""A fake Kubernetes API server with the calls that the lease of config/kubernetes/replicas needs.

    python3 cluster.py CERTIFICATE KEY ADDRESS PORT TOKENS NAMESPACE LOG

It accepts the tokens in the file TOKENS, which it reads for each request, and permits what the Role permits: to create
leases, and to get and patch the lease of its name. It keeps leases in memory, and logs each request: ADDRESS METHOD
TOKEN STATUS.

Written from the documentation of Kubernetes: "Authenticating" (bearer tokens), "Using RBAC Authorization", "API
Concepts" (verbs, resource versions, conflicts) and the reference of coordination.k8s.io/v1. Patches are merge patches,
RFC 7396.
"""

import http.server
import json
import ssl
import sys
import threading

certificate, key, address, port, tokens, namespace, log = sys.argv[1:]
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
NAME = "kms-rotationd"

leases = {}
last_version = 0
lock = threading.Lock()


class Failure(Exception):
    def __init__(self, code, reason):
        super().__init__(reason)
        self.code = code
        self.status = {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": reason, "reason": reason, "code": code,
        }


def merge(target, patch):
    """RFC 7396: a value replaces, an object is merged, null deletes."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def write(name, lease):
    global last_version
    last_version += 1
    lease["metadata"] |= {"name": name, "namespace": namespace, "resourceVersion": str(last_version)}
    leases[name] = lease
    return lease


def create(lease):
    name = lease["metadata"]["name"]
    if name in leases:
        raise Failure(409, "AlreadyExists")
    return write(name, lease)


def patch(changes):
    if NAME not in leases:
        raise Failure(404, "NotFound")
    lease = leases[NAME]
    version = changes.get("metadata", {}).get("resourceVersion")
    if version not in (None, lease["metadata"]["resourceVersion"]):
        raise Failure(409, "Conflict")
    return write(NAME, merge(lease, changes))


def get():
    if NAME not in leases:
        raise Failure(404, "NotFound")
    return leases[NAME]


def token_of(headers):
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token if scheme == "Bearer" else ""


def known(token):
    with open(tokens, encoding="utf-8") as lines:
        return token in lines.read().split()


class Api(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        token = token_of(self.headers)
        try:
            with lock:
                code, answer = self.answer(token, body)
        except Failure as failure:
            code, answer = failure.code, failure.status
        with open(log, "a", encoding="utf-8") as lines:
            print(self.client_address[0], self.command, token, code, file=lines)
        text = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def answer(self, token, body):
        if not known(token):
            raise Failure(401, "Unauthorized")
        match self.command, self.path.partition("?")[0]:
            case "POST", path if path == LEASES:
                return 201, create(json.loads(body))
            case "GET", path if path == f"{LEASES}/{NAME}":
                return 200, get()
            case "PATCH", path if path == f"{LEASES}/{NAME}":
                if self.headers["content-type"] != "application/merge-patch+json":
                    raise Failure(415, "UnsupportedMediaType")
                return 200, patch(json.loads(body))
            case _:
                raise Failure(403, "Forbidden")

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do

    def log_message(self, *_):
        pass


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server = http.server.ThreadingHTTPServer((address, int(port)), Api)
# Each thread makes its own handshake.
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
