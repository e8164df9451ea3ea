# Starts a machine, hands descriptors over with QMP commands, and prints what was answered; arguments: a JSON description.
import json, os, socket, subprocess, sys, time

told = json.loads(sys.argv[1])
files = [os.open(path, getattr(os, mode)) for path, mode in told["files"]]
names = {str(at): str(fd) for at, fd in enumerate(files)}


def filled(word):
    for at, fd in names.items():
        word = word.replace("FILE" + at, fd)
    return word


def connect():
    for _ in range(1200):
        if machine.poll() is not None:
            return None
        try:
            monitor = socket.socket(socket.AF_UNIX)
            monitor.connect(told["socket"])
            return monitor
        except OSError:
            time.sleep(0.05)


def ask(line, fds=()):
    socket.send_fds(monitor, [json.dumps(line).encode()], list(fds))
    while True:
        answer = json.loads(lines.readline())
        if "event" not in answer:
            return answer


machine = subprocess.Popen(
    [*told["program"], *map(filled, told["options"])], pass_fds=files, stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE, stderr=subprocess.PIPE)
answers = []
monitor = connect()
for step in told["steps"] if monitor else []:
    if step == "connect":
        if answers:
            monitor.shutdown(socket.SHUT_RDWR)
            monitor.close()
            time.sleep(0.3)
            monitor = connect()
        lines = monitor.makefile("r")
        lines.readline()
        ask({"execute": "qmp_capabilities"})
        answers.append("connected")
    else:
        answers.append(ask(step["line"], [files[at] for at in step.get("fds", [])]))
if monitor:
    monitor.sendall(b'{"execute":"quit"}')
_, said = machine.communicate()
print(json.dumps({"answers": answers, "status": machine.returncode, "stderr": said.decode()}))
