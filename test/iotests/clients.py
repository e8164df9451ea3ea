"""QEMU's own Python clients of QMP, each driving a mirror whose target has no space once: qemu.qmp, qemu.machine, qmp-shell and qmp-shell -H.
Called with a client, the source tree's folder `python`, the program and a folder; prints what it saw, a JSON value a line."""
import asyncio, json, os, socket, subprocess, sys, time

client, python, program, folder = sys.argv[1:]
sys.path.insert(0, python)
os.chdir(folder)
NODES = [
    dict(driver='null-co', **{'node-name': 'src', 'size': 1 << 20, 'read-zeroes': True}),
    dict(driver='blkdebug', **{'node-name': 'dst', 'image': dict(driver='null-co', size=1 << 20),
         'inject-error': [dict(event='none', iotype='write', errno=28, once=True),
                          dict(event='none', iotype='write-zeroes', errno=28, once=True)]}),
]
MIRROR = {'job-id': 'm', 'device': 'src', 'target': 'dst', 'sync': 'full', 'on-target-error': 'enospc'}
WORDS = ['-nodefaults', '-display', 'none', '-S']


def answers(path):
    """Whether somebody listens: the socket is there a moment before."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


def show(value):
    print(json.dumps(value, sort_keys=True), flush=True)


def job_of(jobs):
    return [(job['device'], job['status'], job['io-status']) for job in jobs]


async def by_qmp(path):
    from qemu.qmp import ExecuteError, QMPClient
    qmp = QMPClient('test')
    with qmp.listener(('BLOCK_JOB_ERROR', 'BLOCK_JOB_READY', 'BLOCK_JOB_COMPLETED')) as listener:
        await qmp.connect(path)
        for node in NODES:
            await qmp.execute('blockdev-add', node)
        await qmp.execute('blockdev-mirror', MIRROR)
        event = await listener.get()
        show([event['event'], event['data']['action'], event['data']['operation']])
        while job_of(await qmp.execute('query-block-jobs'))[0][1] != 'paused':
            await asyncio.sleep(0.01)
        show(job_of(await qmp.execute('query-block-jobs')))
        try:
            await qmp.execute('block-job-complete', {'device': 'm'})
        except ExecuteError as error:
            show(str(error))
        await qmp.execute('block-job-resume', {'device': 'm'})
        show((await listener.get())['event'])
        await qmp.execute('block-job-complete', {'device': 'm'})
        event = await listener.get()
        show([event['event'], event['data'].get('error')])
        await qmp.disconnect()


def by_machine():
    from qemu.machine import QEMUMachine
    with QEMUMachine(program, args=['-nodefaults', '-S'], name='m', base_temp_dir=folder, sock_dir=folder) as vm:
        vm.launch()
        for node in NODES:
            vm.command('blockdev-add', **{key.replace('-', '_') if key == 'node-name' else key: value for key, value in node.items()})
        vm.command('blockdev-mirror', **{key.replace('-', '_'): value for key, value in MIRROR.items()})
        event = vm.event_wait('BLOCK_JOB_ERROR')
        show([event['event'], event['data']['action'], event['data']['operation']])
        while job_of(vm.command('query-block-jobs'))[0][1] != 'paused':
            pass
        show(job_of(vm.command('query-block-jobs')))
        show(vm.qmp('block-job-complete', device='m')['error']['desc'])
        vm.command('block-job-resume', device='m')
        show(vm.event_wait('BLOCK_JOB_READY')['event'])
        vm.command('block-job-complete', device='m')
        event = vm.event_wait('BLOCK_JOB_COMPLETED')
        show([event['event'], event['data'].get('error')])


def value(item):
    return json.dumps(item, separators=(',', ':')) if isinstance(item, (dict, list, bool)) else str(item)


class Shell:
    """qmp-shell as a user has it, line by line."""
    def __init__(self, *words):
        script = os.path.join(python, '..', 'scripts', 'qmp', 'qmp-shell')
        env = dict(os.environ, HOME=folder, PYTHONUNBUFFERED='1')
        self.child = subprocess.Popen([sys.executable, script, *words], env=env, text=True, bufsize=0,
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.prompt()

    def prompt(self):
        text = ''
        while not text.endswith('(QEMU) '):
            letter = self.child.stdout.read(1)
            if letter == '':
                raise EOFError(text)
            text += letter
        return text[:-len('(QEMU) ')].strip()

    def ask(self, line):
        self.child.stdin.write(line + '\n')
        return self.prompt()

    def end(self):
        self.child.stdin.close()
        self.child.stdout.read()
        self.child.wait()


def stopped_mirror(path):
    """A shell over a mirror that has stopped at its error, and what asks for the jobs."""
    shell = Shell(path)
    for node in NODES:
        shell.ask('blockdev-add ' + ' '.join(f'{key}={value(item)}' for key, item in node.items()))
    shell.ask('blockdev-mirror ' + ' '.join(f'{key}={item}' for key, item in MIRROR.items()))
    jobs = lambda: job_of(json.loads(shell.ask('query-block-jobs'))['return'])
    while jobs()[0][1] != 'paused':
        pass
    return shell, jobs


def by_shell(path):
    shell, jobs = stopped_mirror(path)
    show(['BLOCK_JOB_ERROR' in shell.ask(''), jobs()])
    show(json.loads(shell.ask('block-job-complete device=m'))['error']['desc'])
    shell.ask('block-job-resume device=m')
    while jobs()[0][1] != 'ready':
        pass
    shell.ask('block-job-complete device=m')
    while jobs():
        pass
    show('BLOCK_JOB_COMPLETED' in shell.ask(''))
    shell.end()


def by_human_shell(path):
    shell, _ = stopped_mirror(path)
    shell.end()
    shell = Shell('-H', path)
    show(shell.ask('info block-jobs').split(',')[0])
    show(shell.ask('block_job_complete m'))
    show(shell.ask('block_job_resume m'))
    while 'Completed 1048576 of 1048576' not in shell.ask('info block-jobs'):
        pass
    show(shell.ask('block_job_complete m'))
    while shell.ask('info block-jobs') != 'No active jobs':
        pass
    show(shell.ask('block_job_complete m'))
    shell.end()


if client == 'machine':
    by_machine()
else:
    path = os.path.join(folder, 'q')
    child = subprocess.Popen([program, *WORDS, '-qmp', f'unix:{path},server=on,wait=off'])
    try:
        while child.poll() is None and not answers(path):
            time.sleep(0.02)
        if client == 'qmp':
            asyncio.run(by_qmp(path))
        else:
            (by_human_shell if client == 'human' else by_shell)(path)
    finally:
        child.terminate()
        child.wait()
