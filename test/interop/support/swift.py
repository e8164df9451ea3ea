"""OpenStack's object store with its face of S3, as Debian's python3-swift has it: its four servers in one process, in the folder that is
given, on ports of their own. Says `port N` when it answers. Who may ask: test:tester, with the key `testing`. Ends with its stdin."""
import os
import sys

# This folder is no place to look for modules: one of them has this file's name.
sys.path.pop(0)

import eventlet

eventlet.monkey_patch()

from eventlet import wsgi  # noqa: E402
from swift.common import utils  # noqa: E402
from swift.common.ring import RingBuilder  # noqa: E402
from swift.common.wsgi import loadapp  # noqa: E402

FOLDER = os.path.abspath(sys.argv[1])
HOST = "127.0.0.1"
DEFAULTS = f"""[DEFAULT]
swift_dir = {FOLDER}
devices = {FOLDER}/devices
mount_check = false
log_level = CRITICAL
"""
PIPELINE = "catch_errors gatekeeper cache s3api tempauth copy slo proxy-server"
FILTERS = {
    "catch_errors": "",
    "gatekeeper": "",
    "cache": "memcache_servers = 127.0.0.1:1",
    "s3api": "",
    "tempauth": "user_test_tester = testing .admin",
    "copy": "",
    "slo": "",
}


def write(name, text):
    path = os.path.join(FOLDER, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def serve(sock, path):
    app = loadapp(path)
    eventlet.spawn(wsgi.server, sock, app, open(os.devnull, "w"))


def main():
    os.makedirs(f"{FOLDER}/devices/disk", exist_ok=True)
    write("swift.conf", "[swift-hash]\nswift_hash_path_prefix = a\nswift_hash_path_suffix = b\n")
    utils.set_swift_dir(FOLDER)
    utils.validate_configuration()
    for kind in ("account", "container", "object"):
        sock = eventlet.listen((HOST, 0))
        ring = RingBuilder(2, 1, 0)
        port = sock.getsockname()[1]
        ring.add_dev(dict(id=0, region=1, zone=1, weight=1.0, ip=HOST, port=port, device="disk", meta="",
                          replication_ip=HOST, replication_port=port))
        ring.rebalance()
        ring.get_ring().save(f"{FOLDER}/{kind}.ring.gz")
        serve(sock, write(f"{kind}.conf", f"{DEFAULTS}[pipeline:main]\npipeline = {kind}-server\n"
                          f"[app:{kind}-server]\nuse = egg:swift#{kind}\n"))
    text = f"{DEFAULTS}[pipeline:main]\npipeline = {PIPELINE}\n"
    text += "[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\n"
    for name, more in FILTERS.items():
        use = "memcache" if name == "cache" else name
        text += f"[filter:{name}]\nuse = egg:swift#{use}\n{more}\n"
    sock = eventlet.listen((HOST, 0))
    serve(sock, write("proxy.conf", text))
    print(f"port {sock.getsockname()[1]}", flush=True)
    eventlet.tpool.execute(sys.stdin.read)


main()
