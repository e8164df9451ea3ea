// The job state machine: every verb in the states that a manager meets, errors
// that come back, iostatus set and reset, ends of every kind.
import { blkdebug, chain, chainImages, cmd, EIO, ENOSPC, file, jobs, pollJob, raw, status, together, until } from '../lib.mjs';

const plain = [file('src-file', 'src.raw'), raw('src', 'src-file'), file('dst-file', 'dst.raw'), raw('dst', 'dst-file')];
// Large enough that a job limited to 64 KiB/s is still running when the next command arrives.
const images = [
  { file: 'src.raw', format: 'raw', size: '16M', writes: ['write -P 17 0 16M'] },
  { file: 'dst.raw', format: 'raw', size: '16M' },
];
const bad = (side, rules) => side === 'src'
  ? [file('src-file', 'src.raw'), blkdebug('src-debug', 'src-file', rules), raw('src', 'src-debug'), ...plain.slice(2)]
  : [...plain.slice(0, 2), file('dst-file', 'dst.raw'), blkdebug('dst-debug', 'dst-file', rules), raw('dst', 'dst-debug')];
const always = (iotype, errno, sector = 512) => [{ event: 'none', iotype, errno, sector, once: false }];
const start = (job, extra = {}) => cmd(`blockdev-${job}`, { 'job-id': 'job0', device: 'src', target: 'dst', sync: 'full', ...extra });
const onJob = (verb, extra = {}) => cmd(`block-job-${verb}`, { device: 'job0', ...extra });
const job = (verb, id = 'job0') => cmd(`job-${verb}`, { id });
const same = [{ file: 'dst.raw', format: 'raw' }];
const slow = { speed: 65536 };

export default [
  // iostatus: set once, kept over a second error, reset by resume
  ...[['EIO', EIO, 'failed'], ['ENOSPC', ENOSPC, 'nospace']].flatMap(([name, errno, iostatus]) => [
    {
      name: `mirror-target-${name}-comes-back`,
      images, blockdevs: bad('dst', always('write', errno)),
      steps: [
        start('mirror', { 'on-target-error': 'stop' }),
        until('BLOCK_JOB_ERROR', { action: 'stop' }), pollJob({ paused: true, busy: false, 'io-status': iostatus }),
        onJob('resume'), until('BLOCK_JOB_ERROR', { action: 'stop' }), pollJob({ paused: true, busy: false, 'io-status': iostatus }),
        onJob('cancel'), pollJob({ paused: true }), onJob('cancel', { force: true }), status('job0', 'null'), jobs,
      ],
    },
    {
      name: `backup-source-${name}-comes-back`,
      images, blockdevs: bad('src', always('read', errno)),
      steps: [
        start('backup', { 'on-source-error': 'stop' }),
        until('BLOCK_JOB_ERROR', { action: 'stop' }), pollJob({ paused: true, busy: false, 'io-status': iostatus }),
        onJob('resume'), until('BLOCK_JOB_ERROR', { action: 'stop' }), pollJob({ paused: true, busy: false }),
        onJob('cancel', { force: true }), status('job0', 'null'), jobs,
      ],
    },
  ]),
  {
    name: 'stream-ignore-every-time',
    images: chainImages, blockdevs: chain({ base: always('read', EIO, 1200) }),
    steps: [cmd('block-stream', { 'job-id': 'job0', device: 'top', 'on-error': 'ignore' }), status('job0', 'null'), jobs],
    check: [{ file: 'top.qcow2' }],
  },
  {
    name: 'stream-partial-chain', images: chainImages, blockdevs: chain(),
    steps: [cmd('block-stream', { 'job-id': 'job0', device: 'top', 'base-node': 'base' }), status('job0', 'null'), jobs],
    check: [{ file: 'top.qcow2' }],
  },
  {
    name: 'stream-whole-chain', images: chainImages, blockdevs: chain(),
    steps: [cmd('block-stream', { 'job-id': 'job0', device: 'top' }), status('job0', 'null'), jobs],
    check: [{ file: 'top.qcow2' }],
  },
  {
    name: 'commit-intermediate', images: chainImages, blockdevs: chain(),
    steps: [cmd('block-commit', { 'job-id': 'job0', device: 'top', 'top-node': 'mid', 'base-node': 'base' }), status('job0', 'null'), jobs],
    check: [{ file: 'top.qcow2' }, { file: 'base.raw', format: 'raw' }],
  },
  {
    name: 'commit-active-complete', images: chainImages, blockdevs: chain(),
    steps: [cmd('block-commit', { 'job-id': 'job0', device: 'top', 'base-node': 'base' }), until('BLOCK_JOB_READY'), jobs, onJob('complete'), status('job0', 'null'), jobs],
    check: [{ file: 'base.raw', format: 'raw' }],
  },
  {
    name: 'commit-active-cancel', images: chainImages, blockdevs: chain(),
    steps: [cmd('block-commit', { 'job-id': 'job0', device: 'top', 'base-node': 'mid' }), until('BLOCK_JOB_READY'), onJob('cancel'), status('job0', 'null'), jobs],
    check: [{ file: 'top.qcow2' }],
  },
  ...['mirror', 'backup'].flatMap((kind) => [
    {
      name: `${kind}-full`, images, blockdevs: plain,
      steps: [start(kind), ...(kind === 'mirror' ? [until('BLOCK_JOB_READY'), jobs, onJob('complete')] : []), status('job0', 'null'), jobs],
      check: same,
    },
    {
      name: `${kind}-pause-resume`, images, blockdevs: plain,
      steps: [
        start(kind, slow), onJob('pause'), pollJob({ paused: true, busy: false }), onJob('pause'),
        onJob('set-speed', { speed: 0 }), together(onJob('resume'), onJob('resume')),
        ...(kind === 'mirror' ? [until('BLOCK_JOB_READY'), onJob('complete')] : []), status('job0', 'null'), jobs,
      ],
      check: same,
    },
    {
      name: `${kind}-cancel-running`, images, blockdevs: plain,
      steps: [start(kind, slow), onJob('cancel'), status('job0', 'null'), jobs],
    },
    {
      name: `${kind}-cancel-paused`, images, blockdevs: plain,
      steps: [start(kind, slow), onJob('pause'), pollJob({ paused: true, busy: false }), onJob('cancel'), pollJob({ paused: true }), together(onJob('resume'), onJob('cancel')), status('job0', 'null'), jobs],
    },
    {
      name: `${kind}-manual-finalize-dismiss`, images, blockdevs: plain,
      steps: [
        start(kind, { 'auto-finalize': false, 'auto-dismiss': false }),
        ...(kind === 'mirror' ? [until('BLOCK_JOB_READY'), job('complete')] : []),
        until('BLOCK_JOB_PENDING'), jobs, job('dismiss'), job('finalize'), status('job0', 'concluded'), cmd('query-jobs'), job('finalize'), job('cancel'), job('dismiss'), jobs, job('dismiss'),
      ],
      check: same,
    },
    {
      name: `${kind}-cancel-pending`, images, blockdevs: plain,
      steps: [
        start(kind, { 'auto-finalize': false, 'auto-dismiss': false }),
        ...(kind === 'mirror' ? [until('BLOCK_JOB_READY'), job('complete')] : []),
        until('BLOCK_JOB_PENDING'), job('cancel'), status('job0', 'concluded'), cmd('query-jobs'), job('dismiss'), jobs,
      ],
    },
    {
      name: `${kind}-error-kept-until-dismiss`, images,
      blockdevs: bad('dst', always('write', EIO)),
      steps: [start(kind, { 'auto-dismiss': false }), status('job0', 'concluded'), cmd('query-jobs'), jobs, onJob('dismiss', {}), job('dismiss'), jobs],
      drop: [],
    },
    {
      name: `${kind}-verbs-while-running`, images, blockdevs: plain,
      steps: [start(kind, slow), onJob('complete'), job('finalize'), job('dismiss'), onJob('resume'), job('resume'), start(kind), onJob('set-speed', { speed: -1 }), onJob('cancel'), status('job0', 'null')],
    },
  ]),
  {
    name: 'mirror-ready-cancel', images, blockdevs: plain,
    steps: [start('mirror'), until('BLOCK_JOB_READY'), onJob('cancel'), status('job0', 'null'), jobs], check: same,
  },
  {
    name: 'mirror-ready-force-cancel', images, blockdevs: plain,
    steps: [start('mirror'), until('BLOCK_JOB_READY'), onJob('cancel', { force: true }), status('job0', 'null'), jobs], check: same,
  },
  {
    name: 'mirror-ready-job-cancel', images, blockdevs: plain,
    steps: [start('mirror'), until('BLOCK_JOB_READY'), job('cancel'), status('job0', 'null'), jobs], check: same,
  },
  {
    name: 'mirror-ready-pause-complete', images, blockdevs: plain,
    steps: [start('mirror'), until('BLOCK_JOB_READY'), onJob('pause'), pollJob({ paused: true, busy: false }), onJob('complete'), onJob('resume'), status('job0', 'null'), jobs], check: same,
  },
  {
    name: 'mirror-empty-device',
    images: [{ file: 'src.raw', format: 'raw', size: '0' }, { file: 'dst.raw', format: 'raw', size: '0' }], blockdevs: plain,
    steps: [start('mirror'), until('BLOCK_JOB_READY'), jobs, onJob('complete'), status('job0', 'null'), jobs],
  },
  {
    name: 'unknown-job', images, blockdevs: plain,
    steps: ['pause', 'resume', 'cancel', 'complete', 'finalize', 'dismiss'].flatMap((v) => [job(v, 'nope'), cmd(`block-job-${v}`, v === 'finalize' || v === 'dismiss' ? { id: 'nope' } : { device: 'nope' })]),
  },
];
