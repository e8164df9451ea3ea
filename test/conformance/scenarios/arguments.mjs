// Bad input: what each command refuses, and with which words.
import { chain, chainImages, cmd, file, jobs, raw } from '../lib.mjs';

const images = [...chainImages, { file: 'dst.raw', format: 'raw' }, { file: 'small.raw', format: 'raw', size: '512k' }];
const nodes = [...chain(), file('dst-file', 'dst.raw'), raw('dst', 'dst-file'), file('small-file', 'small.raw'), raw('small', 'small-file')];
const one = (name, ...steps) => ({ name, images, blockdevs: nodes, steps: [...steps, jobs] });

export default [
  one('stream-no-such-device', cmd('block-stream', { 'job-id': 'j', device: 'nope' })),
  one('stream-no-job-id', cmd('block-stream', { device: 'top' })),
  one('stream-bad-job-id', cmd('block-stream', { 'job-id': '1bad id', device: 'top' })),
  one('stream-bad-policy', cmd('block-stream', { 'job-id': 'j', device: 'top', 'on-error': 'explode' })),
  one('stream-unknown-argument', cmd('block-stream', { 'job-id': 'j', device: 'top', flavour: 'mint' })),
  one('stream-missing-argument', cmd('block-stream', { 'job-id': 'j' })),
  one('stream-wrong-type', cmd('block-stream', { 'job-id': 'j', device: 7 })),
  one('stream-base-not-in-chain', cmd('block-stream', { 'job-id': 'j', device: 'top', 'base-node': 'dst' })),
  one('stream-base-and-base-node', cmd('block-stream', { 'job-id': 'j', device: 'top', 'base-node': 'mid', base: 'mid.qcow2' })),
  one('stream-base-is-top', cmd('block-stream', { 'job-id': 'j', device: 'top', 'base-node': 'top' })),
  one('stream-negative-speed', cmd('block-stream', { 'job-id': 'j', device: 'top', speed: -1 })),
  one('commit-top-not-in-chain', cmd('block-commit', { 'job-id': 'j', device: 'top', 'top-node': 'dst' })),
  one('commit-base-above-top', cmd('block-commit', { 'job-id': 'j', device: 'top', 'top-node': 'base', 'base-node': 'mid' })),
  one('commit-top-is-base', cmd('block-commit', { 'job-id': 'j', device: 'top', 'top-node': 'mid', 'base-node': 'mid' })),
  one('commit-no-backing', cmd('block-commit', { 'job-id': 'j', device: 'dst' })),
  one('mirror-to-itself', cmd('blockdev-mirror', { 'job-id': 'j', device: 'top', target: 'top', sync: 'full' })),
  one('mirror-no-such-target', cmd('blockdev-mirror', { 'job-id': 'j', device: 'top', target: 'nope', sync: 'full' })),
  one('mirror-smaller-target', cmd('blockdev-mirror', { 'job-id': 'j', device: 'top', target: 'small', sync: 'full' })),
  one('mirror-bad-sync', cmd('blockdev-mirror', { 'job-id': 'j', device: 'top', target: 'dst', sync: 'sideways' })),
  one('mirror-bitmap-sync', cmd('blockdev-mirror', { 'job-id': 'j', device: 'top', target: 'dst', sync: 'bitmap' })),
  one('mirror-bad-granularity', cmd('blockdev-mirror', { 'job-id': 'j', device: 'top', target: 'dst', sync: 'full', granularity: 1000 })),
  one('mirror-small-granularity', cmd('blockdev-mirror', { 'job-id': 'j', device: 'top', target: 'dst', sync: 'full', granularity: 256 })),
  one('mirror-huge-granularity', cmd('blockdev-mirror', { 'job-id': 'j', device: 'top', target: 'dst', sync: 'full', granularity: 128 << 20 })),
  one('mirror-negative-buf-size', cmd('blockdev-mirror', { 'job-id': 'j', device: 'top', target: 'dst', sync: 'full', 'buf-size': -1 })),
  one('backup-to-itself', cmd('blockdev-backup', { 'job-id': 'j', device: 'top', target: 'top', sync: 'full' })),
  one('backup-smaller-target', cmd('blockdev-backup', { 'job-id': 'j', device: 'top', target: 'small', sync: 'full' })),
  one('backup-no-bitmap', cmd('blockdev-backup', { 'job-id': 'j', device: 'top', target: 'dst', sync: 'incremental' })),
  one('backup-unknown-bitmap', cmd('blockdev-backup', { 'job-id': 'j', device: 'top', target: 'dst', sync: 'incremental', bitmap: 'nope' })),
  one('backup-bitmap-without-mode', cmd('block-dirty-bitmap-add', { node: 'top', name: 'b0' }), cmd('blockdev-backup', { 'job-id': 'j', device: 'top', target: 'dst', sync: 'bitmap', bitmap: 'b0' })),
  one('backup-full-with-bitmap', cmd('block-dirty-bitmap-add', { node: 'top', name: 'b0' }), cmd('blockdev-backup', { 'job-id': 'j', device: 'top', target: 'dst', sync: 'full', bitmap: 'b0' })),
  one('unknown-command', cmd('block-levitate', {})),
  one('no-arguments-wanted', cmd('query-block-jobs', { a: 1 })),
  one('node-names', cmd('blockdev-add', { driver: 'null-co', 'node-name': 'top' }), cmd('blockdev-add', { driver: 'null-co', 'node-name': '0bad' }), cmd('blockdev-add', { driver: 'null-co' }), cmd('blockdev-add', { driver: 'nonsense', 'node-name': 'x' }), cmd('blockdev-del', { 'node-name': 'nope' }), cmd('blockdev-del', { 'node-name': 'mid' })),
  one('no-such-file', cmd('blockdev-add', { driver: 'file', 'node-name': 'x', filename: 'missing.raw' }), cmd('blockdev-add', { driver: 'qcow2', 'node-name': 'x', file: 'small-file' })),
];
