// Nodes of every kind that can be made here, added, looked at and taken away; what is refused and in which words; and what
// changes a graph that is there: reopening, snapshots, backing links, resizing, transactions.
import { chain, chainImages, cmd, file, raw, status, until } from '../lib.mjs';

const images = [
  { file: 'a.raw', format: 'raw', writes: ['write -P 17 0 64k'] },
  { file: 'b.raw', format: 'raw' },
  { file: 'c.raw', format: 'raw' },
  { file: 'a.qcow2', writes: ['write -P 34 0 64k'] },
];
const nodes = [file('a-file', 'a.raw'), raw('a', 'a-file'), file('b-file', 'b.raw'), raw('b', 'b-file'), file('c-file', 'c.raw')];
const add = (options) => cmd('blockdev-add', options);
const del = (name) => cmd('blockdev-del', { 'node-name': name });
const list = cmd('query-named-block-nodes', { flat: true });

const create = (options) => [cmd('blockdev-create', { 'job-id': 'new', options }), status('new', 'concluded'), cmd('query-jobs'), cmd('job-dismiss', { id: 'new' })];
/** Node names and numbers that a program makes up are nobody's business. */
const plain = { images, blockdevs: nodes, drop: ['refcount-bits'] };

const drivers = {
  'raw-offset': { driver: 'raw', file: 'c-file', offset: 65536, size: 131072 },
  'raw-size-beyond': { driver: 'raw', file: 'c-file', size: 2097152 },
  'raw-offset-unaligned': { driver: 'raw', file: 'c-file', offset: 1000 },
  qcow2: { driver: 'qcow2', file: { driver: 'file', filename: 'a.qcow2', 'node-name': 'x-file' } },
  'qcow2-not': { driver: 'qcow2', file: 'c-file' },
  'copy-on-read': { driver: 'copy-on-read', file: 'a' },
  throttle: { driver: 'throttle', 'throttle-group': 'nope', file: 'a' },
  blkdebug: { driver: 'blkdebug', image: 'a', align: 4096 },
  'blkdebug-align': { driver: 'blkdebug', image: 'a', align: 1000 },
  blkverify: { driver: 'blkverify', test: 'a', raw: 'b' },
  quorum: { driver: 'quorum', children: ['a', 'b', 'c-file'], 'vote-threshold': 2 },
  'quorum-threshold': { driver: 'quorum', children: ['a', 'b'], 'vote-threshold': 3 },
  'quorum-one': { driver: 'quorum', children: ['a'], 'vote-threshold': 1 },
  'quorum-none': { driver: 'quorum', children: [], 'vote-threshold': 1 },
  'quorum-verify': { driver: 'quorum', children: ['a', 'b', 'c-file'], 'vote-threshold': 2, blkverify: true },
  'null-co': { driver: 'null-co', size: 1048576, 'read-zeroes': true },
  'null-aio': { driver: 'null-aio', 'latency-ns': 5 },
  compress: { driver: 'compress', file: { driver: 'qcow2', 'node-name': 'x-q', file: { driver: 'file', filename: 'a.qcow2', 'node-name': 'x-file' } } },
  'compress-raw': { driver: 'compress', file: 'a' },
  'copy-before-write': { driver: 'copy-before-write', file: 'a', target: 'b' },
  'copy-before-write-bitmap': { driver: 'copy-before-write', file: 'a', target: 'b', bitmap: { node: 'a', name: 'none' } },
  'snapshot-access': { driver: 'snapshot-access', file: 'a' },
};

const wrong = {
  'no-driver': {},
  'unknown-driver': { driver: 'foo' },
  'no-file': { driver: 'raw' },
  'no-filename': { driver: 'file' },
  'unknown-option': { driver: 'raw', file: 'a', foo: 1 },
  'unknown-nested': { driver: 'raw', file: { driver: 'file', filename: 'b.raw', bar: true } },
  'file-number': { driver: 'raw', file: 5 },
  'file-null': { driver: 'raw', file: null },
  'missing-node': { driver: 'raw', file: 'nope' },
  'taken-name': { driver: 'raw', file: 'c-file', 'node-name': 'a' },
  'bad-name': { driver: 'raw', file: 'c-file', 'node-name': '#x' },
  'long-name': { driver: 'raw', file: 'c-file', 'node-name': 'n'.repeat(40) },
  'missing-file': { driver: 'file', filename: 'nope.raw' },
  'a-directory': { driver: 'file', filename: '.' },
  'read-only-string': { driver: 'raw', file: 'c-file', 'read-only': 'on' },
  'cache-writeback': { driver: 'raw', file: 'c-file', cache: { writeback: false } },
  'detect-zeroes': { driver: 'raw', file: 'c-file', 'detect-zeroes': 'unmap' },
  'detect-zeroes-word': { driver: 'raw', file: 'c-file', 'detect-zeroes': 'maybe' },
  'discard-word': { driver: 'raw', file: 'c-file', discard: 'often' },
  'aio-native': { driver: 'file', filename: 'c.raw', aio: 'native' },
  'locking-word': { driver: 'file', filename: 'c.raw', locking: 'never' },
  'host-device': { driver: 'host_device', filename: 'c.raw' },
  'filename-empty': { driver: 'file', filename: '' },
  'in-a-protocol': { driver: 'file', filename: 'file:c.raw' },
};

const reopen = (...options) => cmd('blockdev-reopen', { options });
const topNode = (more = {}) => ({ driver: 'qcow2', 'node-name': 'top', file: 'top-file', backing: 'mid', ...more });
const reopens = {
  'to-read-only': [reopen(topNode({ 'read-only': true })), list, reopen(topNode()), list],
  'unknown-node': [reopen({ driver: 'raw', 'node-name': 'nope', file: 'base-file' })],
  'no-name': [reopen({ driver: 'raw', file: 'base-file' })],
  'another-driver': [reopen({ driver: 'raw', 'node-name': 'top', file: 'top-file' })],
  'another-file': [reopen(topNode({ file: 'mid-file' }))],
  'no-backing': [reopen(topNode({ backing: null })), list, reopen(topNode()), list],
  'backing-base': [reopen(topNode({ backing: 'base' })), list],
  'backing-itself': [reopen(topNode({ backing: 'top' }))],
  'backing-missing': [reopen(topNode({ backing: 'nope' }))],
  'lazy-refcounts': [reopen(topNode({ 'lazy-refcounts': true })), reopen(topNode({ 'overlap-check': 'all' })), reopen(topNode({ 'overlap-check': 'foo' }))],
  'discard-and-zeroes': [reopen(topNode({ discard: 'unmap', 'detect-zeroes': 'unmap' })), list, reopen(topNode({ 'detect-zeroes': 'unmap' })), list],
  'one-of-two-wrong': [reopen(topNode({ 'read-only': true }), { driver: 'qcow2', 'node-name': 'mid', file: 'top-file' }), list],
  'file-node': [reopen({ driver: 'file', 'node-name': 'top-file', filename: 'top.qcow2', 'read-only': true }), list],
  'file-node-elsewhere': [reopen({ driver: 'file', 'node-name': 'top-file', filename: 'mid.qcow2' })],
};

const snapshots = {
  overlay: [add({ driver: 'qcow2', 'node-name': 'over', backing: null, file: { driver: 'file', filename: 'over.qcow2', 'node-name': 'over-file' } }), cmd('blockdev-snapshot', { node: 'top', overlay: 'over' }), list],
  'overlay-with-backing': [add({ driver: 'qcow2', 'node-name': 'over', backing: 'base', file: { driver: 'file', filename: 'over.qcow2', 'node-name': 'over-file' } }), cmd('blockdev-snapshot', { node: 'top', overlay: 'over' })],
  'overlay-missing': [cmd('blockdev-snapshot', { node: 'top', overlay: 'over' }), cmd('blockdev-snapshot', { node: 'nope', overlay: 'top' })],
  'overlay-of-no-format': [add(raw('over', { driver: 'file', filename: 'over.qcow2', 'node-name': 'over-file' })), cmd('blockdev-snapshot', { node: 'top', overlay: 'over' })],
  sync: [cmd('blockdev-snapshot-sync', { 'node-name': 'top', 'snapshot-file': 's.qcow2', 'snapshot-node-name': 's' }), list],
  'sync-without-name': [cmd('blockdev-snapshot-sync', { 'node-name': 'top', 'snapshot-file': 's.qcow2' })],
  'sync-taken-name': [cmd('blockdev-snapshot-sync', { 'node-name': 'top', 'snapshot-file': 's.qcow2', 'snapshot-node-name': 'mid' })],
  'sync-format': [cmd('blockdev-snapshot-sync', { 'node-name': 'top', 'snapshot-file': 's.qcow2', 'snapshot-node-name': 's', format: 'foo' })],
  'sync-raw': [cmd('blockdev-snapshot-sync', { 'node-name': 'top', 'snapshot-file': 's.raw', 'snapshot-node-name': 's', format: 'raw' })],
  'sync-nowhere': [cmd('blockdev-snapshot-sync', { 'node-name': 'top', 'snapshot-file': 'no/s.qcow2', 'snapshot-node-name': 's' })],
  'sync-existing': [cmd('blockdev-snapshot-sync', { 'node-name': 'top', 'snapshot-file': 'over.qcow2', 'snapshot-node-name': 's', mode: 'existing' }), list],
  'sync-nothing': [cmd('blockdev-snapshot-sync', { 'snapshot-file': 's.qcow2' }), cmd('blockdev-snapshot-sync', { device: 'nope', 'snapshot-file': 's.qcow2' })],
  internal: [cmd('blockdev-snapshot-internal-sync', { device: 'top', name: 's' }), cmd('blockdev-snapshot-delete-internal-sync', { device: 'top', name: 's' })],
  'change-backing': [cmd('change-backing-file', { device: 'top', 'image-node-name': 'top', 'backing-file': 'base.raw' }), list],
  'change-backing-wrong': [cmd('change-backing-file', { device: 'top', 'image-node-name': 'base', 'backing-file': 'x' }), cmd('change-backing-file', { device: 'top', 'image-node-name': 'nope', 'backing-file': 'x' }), cmd('change-backing-file', { device: 'nope', 'image-node-name': 'top', 'backing-file': 'x' })],
};

const resize = (size, name = 'a') => cmd('block_resize', { 'node-name': name, size });
const transaction = (...actions) => cmd('transaction', { actions: actions.map(([type, data]) => ({ type, data })) });
const bitmap = (name) => ['block-dirty-bitmap-add', { node: 'a', name }];
const changes = {
  grow: [resize(2097152), resize(1048576), list],
  'resize-wrong': [resize(-1), resize(100), resize(1048576, 'nope'), cmd('block_resize', { size: 1 })],
  'resize-filter': [add({ driver: 'copy-on-read', 'node-name': 'cor', file: 'a' }), resize(2097152, 'cor'), list],
  'delete-used': [del('a-file'), del('nope'), del('a'), del('a-file'), del('a-file')],
  'write-threshold': [cmd('block-set-write-threshold', { 'node-name': 'a', 'write-threshold': 65536 }), list, cmd('block-set-write-threshold', { 'node-name': 'a', 'write-threshold': 0 }), cmd('block-set-write-threshold', { 'node-name': 'nope', 'write-threshold': 5 }), cmd('block-set-write-threshold', { 'node-name': 'a', 'write-threshold': -5 })],
  'transaction-empty': [transaction()],
  'transaction-abort': [transaction(bitmap('x'), ['abort', {}]), list],
  'transaction-unknown': [transaction(['foo', {}]), transaction(['abort', { x: 1 }])],
  'transaction-bitmaps': [transaction(bitmap('x'), bitmap('y'), ['block-dirty-bitmap-disable', { node: 'a', name: 'x' }], ['block-dirty-bitmap-merge', { node: 'a', target: 'y', bitmaps: ['x'] }]), list, transaction(['block-dirty-bitmap-remove', { node: 'a', name: 'x' }], ['block-dirty-bitmap-remove', { node: 'a', name: 'z' }]), list],
  'transaction-snapshot-twice': [transaction(['blockdev-snapshot-sync', { 'node-name': 'a', 'snapshot-file': 's1.qcow2', 'snapshot-node-name': 's1' }], ['blockdev-snapshot-sync', { 'node-name': 'a', 'snapshot-file': 's2.qcow2', 'snapshot-node-name': 's2' }]), list],
  'transaction-snapshot-undone': [transaction(['blockdev-snapshot-sync', { 'node-name': 'a', 'snapshot-file': 's1.qcow2', 'snapshot-node-name': 's1' }], ['abort', {}]), list],
  'transaction-grouped': [cmd('transaction', { actions: [{ type: 'blockdev-backup', data: { device: 'a', target: 'b', sync: 'full', 'job-id': 'j' } }], properties: { 'completion-mode': 'grouped' } }), status('j', 'null')],
  'transaction-mode-wrong': [cmd('transaction', { actions: [], properties: { 'completion-mode': 'foo' } }), cmd('transaction', { actions: [], properties: { foo: 1 } }), cmd('transaction', {})],
  'quorum-change': [add({ driver: 'quorum', 'node-name': 'q', children: ['a', 'b'], 'vote-threshold': 2 }), cmd('x-blockdev-change', { parent: 'q', node: 'c-file' }), list, cmd('x-blockdev-change', { parent: 'q', child: 'children.2' }), cmd('x-blockdev-change', { parent: 'q', child: 'children.1' }), cmd('x-blockdev-change', { parent: 'q' }), cmd('x-blockdev-change', { parent: 'q', child: 'x', node: 'a' }), cmd('x-blockdev-change', { parent: 'a', node: 'b' })],
  groups: [
    cmd('object-add', { 'qom-type': 'throttle-group', id: 'g', limits: { 'iops-total': 10 } }), add({ driver: 'throttle', 'node-name': 't', 'throttle-group': 'g', file: 'a' }),
    cmd('qom-get', { path: 'g', property: 'limits' }), cmd('object-del', { id: 'g' }), cmd('qom-set', { path: 'g', property: 'limits', value: { 'bps-read': 5, 'bps-total': 6 } }),
    cmd('qom-set', { path: 'g', property: 'limits', value: { 'bps-read': 5 } }), cmd('qom-get', { path: 'g', property: 'limits' }), list, del('t'), cmd('object-del', { id: 'g' }), cmd('object-del', { id: 'g' }),
  ],
  'objects-wrong': [
    cmd('object-add', { 'qom-type': 'foo', id: 'g' }), cmd('object-add', { 'qom-type': 'throttle-group' }), cmd('object-add', { 'qom-type': 'throttle-group', id: '1x' }),
    cmd('object-add', { 'qom-type': 'secret', id: 's' }), cmd('object-add', { 'qom-type': 'secret', id: 's', data: 'x', file: 'y' }), cmd('object-add', { 'qom-type': 'secret', id: 's', data: 'x' }),
    cmd('object-add', { 'qom-type': 'secret', id: 's', data: 'x' }), cmd('object-del', { id: 's' }), cmd('object-add', { 'qom-type': 'throttle-group', id: 'g', limits: { 'iops-total': 1, 'iops-read': 1 } }),
    cmd('object-add', { 'qom-type': 'throttle-group', id: 'g', 'x-iops-total': -1 }),
  ],
  'copy-before-write': [
    add({ driver: 'copy-before-write', 'node-name': 'cbw', file: 'a', target: 'b' }), add({ driver: 'snapshot-access', 'node-name': 'sa', file: 'cbw' }), list,
    cmd('blockdev-backup', { 'job-id': 'j', device: 'sa', target: 'c-file', sync: 'full' }), status('j', 'null'), del('cbw'), del('sa'), del('cbw'), list,
  ],
  exports: [
    cmd('block-export-add', { type: 'nbd', id: 'e', 'node-name': 'a' }), cmd('nbd-server-start', { addr: { type: 'unix', data: { path: 'nbd.sock' } } }), cmd('nbd-server-start', { addr: { type: 'unix', data: { path: 'nbd.sock' } } }),
    cmd('block-export-add', { type: 'nbd', id: 'e', 'node-name': 'nope' }), cmd('block-export-add', { type: 'nbd', id: 'e', 'node-name': 'a', name: 'n' }), cmd('block-export-add', { type: 'nbd', id: 'e', 'node-name': 'b' }),
    cmd('block-export-add', { type: 'nbd', id: 'f', 'node-name': 'b', name: 'n' }), cmd('block-export-add', { type: 'nbd', id: '1f', 'node-name': 'b', name: 'm' }), cmd('block-export-add', { type: 'foo', id: 'f', 'node-name': 'b' }),
    cmd('block-export-add', { type: 'nbd', id: 'f', 'node-name': 'b', bitmaps: ['x'] }), cmd('query-block-exports'), del('a'), cmd('block-export-del', { id: 'x' }), cmd('block-export-del', { id: 'e' }), until('BLOCK_EXPORT_DELETED', { id: 'e' }),
    cmd('query-block-exports'), cmd('nbd-server-add', { device: 'b' }), cmd('query-block-exports'), cmd('nbd-server-remove', { name: 'x' }), cmd('nbd-server-remove', { name: 'b', mode: 'hard' }), until('BLOCK_EXPORT_DELETED', { id: 'b' }),
    cmd('nbd-server-stop'), cmd('nbd-server-stop'),
  ],
  'create-qcow2': create({ driver: 'qcow2', file: 'c-file', size: 1048576 }),
  'create-qcow2-cluster': create({ driver: 'qcow2', file: 'c-file', size: 1048576, 'cluster-size': 1000 }),
  'create-qcow2-version': create({ driver: 'qcow2', file: 'c-file', size: 1048576, version: 'v2', 'lazy-refcounts': true }),
  'create-qcow2-backing': create({ driver: 'qcow2', file: 'c-file', size: 1048576, 'backing-fmt': 'raw' }),
  'create-qcow2-external': create({ driver: 'qcow2', file: 'c-file', size: 1048576, 'data-file-raw': true }),
  'create-file': create({ driver: 'file', filename: 'new.raw', size: 1000 }),
  'create-file-nowhere': create({ driver: 'file', filename: 'no/new.raw', size: 1024 }),
  'create-wrong': [cmd('blockdev-create', { 'job-id': 'new', options: { driver: 'foo' } }), cmd('blockdev-create', { 'job-id': '1', options: { driver: 'file', filename: 'x', size: 1 } })],
  'create-luks-key': create({ driver: 'luks', file: 'c-file', size: 65536, 'key-secret': 'nope' }),
};

const each = (group, from, make) => Object.entries(from).map(([name, what]) => ({ name: `${group}-${name}`, ...make(what) }));
/** What tells of the time of day. */
const moments = ['date-sec', 'date-nsec', 'vm-clock-sec', 'vm-clock-nsec'];
const over = { file: 'over.qcow2' };

export default [
  ...each('add', drivers, (options) => ({ ...plain, steps: [add({ 'node-name': 'x', ...options }), list, del('x')] })),
  ...each('refuse', wrong, (options) => ({ ...plain, steps: [add({ 'node-name': 'x', ...options }), del('x')] })),
  ...each('reopen', reopens, (steps) => ({ images: chainImages, blockdevs: chain(), steps })),
  ...each('snapshot', snapshots, (steps) => ({ images: [...chainImages, over], blockdevs: chain(), drop: moments, steps })),
  ...each('change', changes, (steps) => ({ ...plain, steps })),
];
