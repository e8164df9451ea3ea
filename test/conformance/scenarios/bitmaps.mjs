// Dirty bitmaps: their commands, incremental and bitmap backups, transactions.
import { cmd, file, jobs, qcow2, raw, status, until, blkdebug, EIO } from '../lib.mjs';

const images = [
  { file: 'src.qcow2', writes: ['write -P 17 0 256k', 'write -P 34 512k 64k'] },
  { file: 'full.qcow2' }, { file: 'inc.qcow2', backing: 'full.qcow2' },
];
const nodes = [file('src-file', 'src.qcow2'), qcow2('src', 'src-file'), file('full-file', 'full.qcow2'), qcow2('full', 'full-file'), file('inc-file', 'inc.qcow2'), { driver: 'qcow2', 'node-name': 'inc', file: 'inc-file', backing: null }];
const add = (name, extra = {}) => cmd('block-dirty-bitmap-add', { node: 'src', name, ...extra });
const bm = (verb, name, extra = {}) => cmd(`block-dirty-bitmap-${verb}`, { node: 'src', name, ...extra });
const query = cmd('query-named-block-nodes', { flat: true });
// Only the bitmaps of the answer matter here.
const drop = ['iops_rd', 'iops_wr', 'iops', 'bps', 'bps_rd', 'bps_wr', 'image', 'cache', 'write_threshold', 'detect_zeroes', 'encrypted', 'ro', 'file', 'backing_file_depth', 'drv'];
const backup = (target, sync, extra = {}) => cmd('blockdev-backup', { 'job-id': 'job0', device: 'src', target, sync, ...extra });
const done = [status('job0', 'null'), jobs];
const sha = (name, node = 'src') => cmd('x-debug-block-dirty-bitmap-sha256', { node, name });

export default [
  { name: 'add-query-remove', images, blockdevs: nodes, drop, steps: [add('b0'), add('b1', { granularity: 4096 }), add('b2', { disabled: true }), add('b3', { persistent: true }), add('b0'), add('bad', { granularity: 1000 }), add('bad', { granularity: 256 }), query, bm('remove', 'b1'), bm('remove', 'b1'), query] , check: [{ file: 'src.qcow2' }] },
  { name: 'enable-disable-clear', images, blockdevs: nodes, drop, steps: [add('b0', { disabled: true }), bm('enable', 'b0'), bm('disable', 'b0'), bm('clear', 'b0'), bm('clear', 'nope'), query] },
  { name: 'merge', images, blockdevs: nodes, drop, steps: [add('a'), add('b'), add('c', { granularity: 32768 }), cmd('block-dirty-bitmap-merge', { node: 'src', target: 'a', bitmaps: ['b'] }), cmd('block-dirty-bitmap-merge', { node: 'src', target: 'a', bitmaps: ['b', 'c'] }), cmd('block-dirty-bitmap-merge', { node: 'src', target: 'a', bitmaps: ['nope'] }), sha('a'), query] },
  { name: 'backup-full-then-incremental', images, blockdevs: nodes, drop, steps: [add('b0'), backup('full', 'full'), ...done, backup('inc', 'incremental', { bitmap: 'b0' }), ...done, query], check: [{ file: 'full.qcow2' }, { file: 'inc.qcow2' }] },
  { name: 'backup-top', images, blockdevs: nodes, drop, steps: [backup('full', 'top'), ...done], check: [{ file: 'full.qcow2' }] },
  { name: 'backup-none-then-cancel', images, blockdevs: nodes, drop, steps: [backup('full', 'none'), cmd('block-job-cancel', { device: 'job0' }), ...done], check: [{ file: 'full.qcow2' }] },
  ...['on-success', 'always', 'never'].flatMap((mode) => ['full', 'bitmap'].map((sync) => ({
    name: `backup-${sync}-bitmap-${mode}`, images, blockdevs: nodes, drop,
    steps: [add('b0'), backup('full', sync, { bitmap: 'b0', 'bitmap-mode': mode }), ...(sync === 'full' && mode === 'never' ? [] : done), query],
  }))),
  {
    name: 'transaction-two-backups-grouped-one-fails',
    images: [{ file: 'a.raw', format: 'raw', writes: ['write -P 17 0 1M'] }, { file: 'b.raw', format: 'raw', writes: ['write -P 34 0 1M'] }, { file: 'ta.raw', format: 'raw' }, { file: 'tb.raw', format: 'raw' }],
    blockdevs: [file('af', 'a.raw'), raw('a', 'af'), file('bf', 'b.raw'), blkdebug('bd', 'bf', [{ event: 'none', iotype: 'read', errno: EIO, sector: 512, once: true }]), raw('b', 'bd'), file('taf', 'ta.raw'), raw('ta', 'taf'), file('tbf', 'tb.raw'), raw('tb', 'tbf')],
    steps: [
      cmd('transaction', { actions: [
        { type: 'blockdev-backup', data: { 'job-id': 'ja', device: 'a', target: 'ta', sync: 'full', speed: 262144 } },
        { type: 'blockdev-backup', data: { 'job-id': 'jb', device: 'b', target: 'tb', sync: 'full' } },
      ], properties: { 'completion-mode': 'grouped' } }),
      status('jb', 'null'), { wait: 300 }, jobs,
    ],
  },
  {
    name: 'transaction-refused-whole', images, blockdevs: nodes, drop,
    steps: [cmd('transaction', { actions: [{ type: 'block-dirty-bitmap-add', data: { node: 'src', name: 'x' } }, { type: 'block-dirty-bitmap-add', data: { node: 'src', name: 'x' } }] }), query],
  },
  {
    name: 'transaction-bitmaps', images, blockdevs: nodes, drop,
    steps: [add('b0'), cmd('transaction', { actions: [{ type: 'block-dirty-bitmap-add', data: { node: 'src', name: 'b1' } }, { type: 'block-dirty-bitmap-disable', data: { node: 'src', name: 'b0' } }, { type: 'block-dirty-bitmap-merge', data: { node: 'src', target: 'b1', bitmaps: ['b0'] } }] }), query],
  },
  {
    name: 'busy-bitmap', images, blockdevs: nodes, drop,
    steps: [add('b0'), backup('inc', 'incremental', { bitmap: 'b0', 'auto-finalize': false }), until('BLOCK_JOB_PENDING'), bm('clear', 'b0'), bm('remove', 'b0'), bm('disable', 'b0'), cmd('job-finalize', { id: 'job0' }), ...done, query],
  },
];
