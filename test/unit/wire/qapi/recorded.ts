/**
 * What qemu-storage-daemon 7.2.22 answered to each of these messages, recorded once: the text of its refusal, or null
 * where the arguments passed and only the command itself could have failed.
 */
export const recorded: readonly (readonly [message: string, refusal: string | null])[] = [
  ['{"execute":"block-stream","arguments":{}}', "Parameter 'device' is missing"],
  [
    '{"execute":"block-stream","arguments":{"job-id":7}}',
    "Invalid parameter type for 'job-id', expected: string",
  ],
  [
    '{"execute":"block-stream","arguments":{"device":"x","speed":"1"}}',
    "Invalid parameter type for 'speed', expected: integer",
  ],
  [
    '{"execute":"block-stream","arguments":{"device":"x","speed":1.5}}',
    "Invalid parameter type for 'speed', expected: integer",
  ],
  [
    '{"execute":"block-stream","arguments":{"device":"x","speed":1.0}}',
    "Invalid parameter type for 'speed', expected: integer",
  ],
  ['{"execute":"block-stream","arguments":{"device":"x","speed":9223372036854775807}}', null],
  [
    '{"execute":"block-stream","arguments":{"device":"x","speed":9223372036854775808}}',
    "Invalid parameter type for 'speed', expected: integer",
  ],
  [
    '{"execute":"block-stream","arguments":{"device":"x","speed":18446744073709551616}}',
    "Invalid parameter type for 'speed', expected: integer",
  ],
  ['{"execute":"block-stream","arguments":{"device":"x","speed":-0}}', null],
  [
    '{"execute":"block-stream","arguments":{"device":"x","speed":null}}',
    "Invalid parameter type for 'speed', expected: integer",
  ],
  [
    '{"execute":"block-stream","arguments":{"device":"x","speed":{}}}',
    "Invalid parameter type for 'speed', expected: integer",
  ],
  [
    '{"execute":"block-stream","arguments":{"device":"x","auto-finalize":1}}',
    "Invalid parameter type for 'auto-finalize', expected: boolean",
  ],
  [
    '{"execute":"block-stream","arguments":{"device":"x","auto-finalize":"on"}}',
    "Invalid parameter type for 'auto-finalize', expected: boolean",
  ],
  [
    '{"execute":"block-stream","arguments":{"device":"x","on-error":1}}',
    "Invalid parameter type for 'on-error', expected: string",
  ],
  [
    '{"execute":"block-stream","arguments":{"device":"x","on-error":""}}',
    "Parameter 'on-error' does not accept value ''",
  ],
  [
    '{"execute":"block-stream","arguments":{"device":null}}',
    "Invalid parameter type for 'device', expected: string",
  ],
  ['{"execute":"block-stream","arguments":{"zz":1}}', "Parameter 'device' is missing"],
  [
    '{"execute":"blockdev-mirror","arguments":{"device":"x","target":"y","sync":"full","granularity":4294967296}}',
    "Parameter 'granularity' expects uint32_t",
  ],
  [
    '{"execute":"blockdev-mirror","arguments":{"device":"x","target":"y","sync":"full","granularity":-1}}',
    "Parameter 'granularity' expects uint32_t",
  ],
  [
    '{"execute":"blockdev-mirror","arguments":{"device":"x","target":"y","sync":"full","granularity":"1"}}',
    "Parameter 'granularity' expects uint64",
  ],
  [
    '{"execute":"blockdev-mirror","arguments":{"device":"x","target":"y","sync":"full","granularity":1.5}}',
    "Parameter 'granularity' expects uint64",
  ],
  ['{"execute":"blockdev-mirror","arguments":{"device":"x","target":"y"}}', "Parameter 'sync' is missing"],
  ['{"execute":"blockdev-mirror","arguments":{}}', "Parameter 'device' is missing"],
  ['{"execute":"transaction","arguments":{}}', "Parameter 'actions' is missing"],
  [
    '{"execute":"transaction","arguments":{"actions":3}}',
    "Invalid parameter type for 'actions', expected: array",
  ],
  [
    '{"execute":"transaction","arguments":{"actions":[3]}}',
    "Invalid parameter type for 'actions[0]', expected: object",
  ],
  ['{"execute":"transaction","arguments":{"actions":[{}]}}', "Parameter 'actions[0].type' is missing"],
  [
    '{"execute":"transaction","arguments":{"actions":[{"type":"foo"}]}}',
    "Parameter 'type' does not accept value 'foo'",
  ],
  [
    '{"execute":"transaction","arguments":{"actions":[{"type":"abort"}]}}',
    "Parameter 'actions[0].data' is missing",
  ],
  [
    '{"execute":"transaction","arguments":{"actions":[{"type":"abort","data":3}]}}',
    "Invalid parameter type for 'actions[0].data', expected: object",
  ],
  [
    '{"execute":"transaction","arguments":{"actions":[{"type":"abort","data":{"x":1}}]}}',
    "Parameter 'actions[0].data.x' is unexpected",
  ],
  [
    '{"execute":"transaction","arguments":{"actions":[{"type":"blockdev-backup","data":{}}]}}',
    "Parameter 'actions[0].data.device' is missing",
  ],
  [
    '{"execute":"transaction","arguments":{"actions":[{"type":"abort","data":{},"x":1}]}}',
    "Parameter 'actions[0].x' is unexpected",
  ],
  [
    '{"execute":"transaction","arguments":{"actions":[{"type":"abort","data":{}}],"properties":{"completion-mode":"x"}}}',
    "Parameter 'completion-mode' does not accept value 'x'",
  ],
  [
    '{"execute":"block-dirty-bitmap-merge","arguments":{"node":"a","target":"b","bitmaps":[3]}}',
    "Invalid parameter type for 'null', expected: BlockDirtyBitmapOrStr",
  ],
  [
    '{"execute":"block-dirty-bitmap-merge","arguments":{"node":"a","target":"b","bitmaps":[{"node":"a"}]}}',
    "Parameter 'bitmaps[0].name' is missing",
  ],
  [
    '{"execute":"block-dirty-bitmap-merge","arguments":{"node":"a","target":"b","bitmaps":[null]}}',
    "Invalid parameter type for 'null', expected: BlockDirtyBitmapOrStr",
  ],
  [
    '{"execute":"block-dirty-bitmap-merge","arguments":{"node":"a","target":"b","bitmaps":"x"}}',
    "Invalid parameter type for 'bitmaps', expected: array",
  ],
  ['{"execute":"blockdev-create","arguments":{"job-id":"j","options":{"driver":"raw"}}}', null],
  [
    '{"execute":"blockdev-create","arguments":{"job-id":"j","options":{"driver":"file","filename":"x","size":"1M"}}}',
    "Parameter 'options.size' expects uint64",
  ],
  [
    '{"execute":"blockdev-create","arguments":{"job-id":"j","options":{"driver":"file","filename":"x","size":1.5}}}',
    "Parameter 'options.size' expects uint64",
  ],
  [
    '{"execute":"blockdev-create","arguments":{"job-id":"j","options":{"driver":"file","filename":"x","size":1,"preallocation":"x"}}}',
    "Parameter 'preallocation' does not accept value 'x'",
  ],
  [
    '{"execute":"blockdev-create","arguments":{"job-id":"j","options":{"driver":"qcow2","file":"x","size":1,"refcount-bits":4294967296}}}',
    null,
  ],
  [
    '{"execute":"blockdev-create","arguments":{"job-id":"j","options":{"driver":"zzz"}}}',
    "Parameter 'driver' does not accept value 'zzz'",
  ],
  [
    '{"execute":"blockdev-reopen","arguments":{"options":{}}}',
    "Invalid parameter type for 'options', expected: array",
  ],
  [
    '{"execute":"blockdev-reopen","arguments":{"options":[{"driver":"file"}]}}',
    "Parameter 'options[0].filename' is missing",
  ],
  ['{"execute":"object-add","arguments":{}}', "Parameter 'qom-type' is missing"],
  [
    '{"execute":"object-add","arguments":{"qom-type":"x","id":"y"}}',
    "Parameter 'qom-type' does not accept value 'x'",
  ],
  ['{"execute":"object-add","arguments":{"qom-type":"throttle-group"}}', "Parameter 'id' is missing"],
  [
    '{"execute":"object-add","arguments":{"qom-type":"throttle-group","id":"y","limits":{"iops-total":"x"}}}',
    "Invalid parameter type for 'limits.iops-total', expected: integer",
  ],
  [
    '{"execute":"object-add","arguments":{"qom-type":"throttle-group","id":"y","limits":{"foo":1}}}',
    "Parameter 'limits.foo' is unexpected",
  ],
  [
    '{"execute":"object-add","arguments":{"qom-type":"secret","id":"y","format":"z"}}',
    "Parameter 'format' does not accept value 'z'",
  ],
  [
    '{"execute":"blockdev-backup","arguments":{"device":"a","target":"b","sync":"full","x-perf":{"max-workers":1.5}}}',
    "Invalid parameter type for 'x-perf.max-workers', expected: integer",
  ],
  [
    '{"execute":"block-job-cancel","arguments":{"device":"a","force":"x"}}',
    "Invalid parameter type for 'force', expected: boolean",
  ],
  ['{"execute":"block_resize","arguments":{"size":1}}', null],
  ['{"execute":"block_resize","arguments":{}}', "Parameter 'size' is missing"],
  [
    '{"execute":"query-named-block-nodes","arguments":{"flat":1}}',
    "Invalid parameter type for 'flat', expected: boolean",
  ],
  [
    '{"execute":"blockdev-snapshot-sync","arguments":{"snapshot-file":"x","mode":"y"}}',
    "Parameter 'mode' does not accept value 'y'",
  ],
  [
    '{"execute":"drive-mirror","arguments":{"device":"a","target":"b","sync":"full","mode":"z"}}',
    "Parameter 'mode' does not accept value 'z'",
  ],
  [
    '{"execute":"drive-backup","arguments":{"device":"a","target":"b","sync":"full","bitmap-mode":"z"}}',
    "Parameter 'bitmap-mode' does not accept value 'z'",
  ],
  ['{"execute":"block-stream","arguments":{"device":"x","speed":1099511627776}}', null],
  [
    '{"execute":"block-stream","arguments":{"device":"x","speed":"1"}}',
    "Invalid parameter type for 'speed', expected: integer",
  ],
  ['{"execute":"block-commit","arguments":{"device":"x","speed":1099511627776}}', null],
  [
    '{"execute":"block-commit","arguments":{"device":"x","speed":"1"}}',
    "Invalid parameter type for 'speed', expected: integer",
  ],
  [
    '{"execute":"blockdev-mirror","arguments":{"device":"x","target":"y","sync":"full","speed":1099511627776}}',
    null,
  ],
  [
    '{"execute":"blockdev-mirror","arguments":{"device":"x","target":"y","sync":"full","speed":"1"}}',
    "Invalid parameter type for 'speed', expected: integer",
  ],
  [
    '{"execute":"blockdev-mirror","arguments":{"device":"x","target":"y","sync":"full","granularity":1099511627776}}',
    "Parameter 'granularity' expects uint32_t",
  ],
  [
    '{"execute":"blockdev-mirror","arguments":{"device":"x","target":"y","sync":"full","granularity":"1"}}',
    "Parameter 'granularity' expects uint64",
  ],
  [
    '{"execute":"blockdev-mirror","arguments":{"device":"x","target":"y","sync":"full","buf-size":1099511627776}}',
    null,
  ],
  [
    '{"execute":"blockdev-mirror","arguments":{"device":"x","target":"y","sync":"full","buf-size":"1"}}',
    "Invalid parameter type for 'buf-size', expected: integer",
  ],
  [
    '{"execute":"drive-mirror","arguments":{"device":"x","target":"y","sync":"full","speed":1099511627776}}',
    null,
  ],
  [
    '{"execute":"drive-mirror","arguments":{"device":"x","target":"y","sync":"full","speed":"1"}}',
    "Invalid parameter type for 'speed', expected: integer",
  ],
  [
    '{"execute":"drive-mirror","arguments":{"device":"x","target":"y","sync":"full","granularity":1099511627776}}',
    "Parameter 'granularity' expects uint32_t",
  ],
  [
    '{"execute":"drive-mirror","arguments":{"device":"x","target":"y","sync":"full","granularity":"1"}}',
    "Parameter 'granularity' expects uint64",
  ],
  [
    '{"execute":"drive-mirror","arguments":{"device":"x","target":"y","sync":"full","buf-size":1099511627776}}',
    null,
  ],
  [
    '{"execute":"drive-mirror","arguments":{"device":"x","target":"y","sync":"full","buf-size":"1"}}',
    "Invalid parameter type for 'buf-size', expected: integer",
  ],
  [
    '{"execute":"blockdev-backup","arguments":{"device":"x","target":"y","sync":"full","speed":1099511627776}}',
    null,
  ],
  [
    '{"execute":"blockdev-backup","arguments":{"device":"x","target":"y","sync":"full","speed":"1"}}',
    "Invalid parameter type for 'speed', expected: integer",
  ],
  [
    '{"execute":"block-dirty-bitmap-add","arguments":{"node":"x","name":"y","granularity":1099511627776}}',
    "Parameter 'granularity' expects uint32_t",
  ],
  [
    '{"execute":"block-dirty-bitmap-add","arguments":{"node":"x","name":"y","granularity":"1"}}',
    "Parameter 'granularity' expects uint64",
  ],
  ['{"execute":"block_resize","arguments":{"size":1099511627776}}', null],
  [
    '{"execute":"block_resize","arguments":{"size":"1"}}',
    "Invalid parameter type for 'size', expected: integer",
  ],
  ['{"execute":"block-job-set-speed","arguments":{"device":"x","speed":1099511627776}}', null],
  [
    '{"execute":"block-job-set-speed","arguments":{"device":"x","speed":"1"}}',
    "Invalid parameter type for 'speed', expected: integer",
  ],
  [
    '{"execute":"block-set-write-threshold","arguments":{"node-name":"x","write-threshold":1099511627776}}',
    null,
  ],
  [
    '{"execute":"block-set-write-threshold","arguments":{"node-name":"x","write-threshold":"1"}}',
    "Parameter 'write-threshold' expects uint64",
  ],
  [
    '{"execute":"blockdev-backup","arguments":{"device":"x","target":"y","sync":"full","x-perf":{"max-chunk":"1"}}}',
    "Invalid parameter type for 'x-perf.max-chunk', expected: integer",
  ],
  [
    '{"execute":"blockdev-backup","arguments":{"device":"x","target":"y","sync":"full","x-perf":{"max-workers":1099511627776}}}',
    null,
  ],
  [
    '{"execute":"blockdev-create","arguments":{"job-id":"k","options":{"driver":"file","filename":"x"}}}',
    "Parameter 'options.size' is missing",
  ],
  [
    '{"execute":"blockdev-create","arguments":{"job-id":"k","options":{"driver":"qcow2","file":"x","size":1,"cluster-size":"1"}}}',
    "Parameter 'options.cluster-size' expects uint64",
  ],
  [
    '{"execute":"blockdev-create","arguments":{"job-id":"k","options":{"driver":"qcow2","file":"x","size":1,"refcount-bits":"1"}}}',
    "Invalid parameter type for 'options.refcount-bits', expected: integer",
  ],
  [
    '{"execute":"blockdev-create","arguments":{"job-id":"k","options":{"driver":"qcow2","file":"x","size":1,"version":"v4"}}}',
    "Parameter 'version' does not accept value 'v4'",
  ],
  [
    '{"execute":"blockdev-create","arguments":{"job-id":"k","options":{"driver":"file","filename":"x","size":1,"extent-size-hint":"1"}}}',
    "Parameter 'options.extent-size-hint' expects uint64",
  ],
  [
    '{"execute":"block-stream","arguments":{"device":"x","__proto__x":1}}',
    "Parameter '__proto__x' is unexpected",
  ],
  [
    '{"execute":"block-stream","arguments":{"device":"x","__proto__":1}}',
    "Parameter '__proto__' is unexpected",
  ],
  [
    '{"execute":"block-stream","arguments":{"device":"x","constructor":1}}',
    "Parameter 'constructor' is unexpected",
  ],
  ['{"execute":"block-stream","arguments":{"device":"x","speed":-9223372036854775808}}', null],
  [
    '{"execute":"block-stream","arguments":{"device":"x","speed":-9223372036854775809}}',
    "Invalid parameter type for 'speed', expected: integer",
  ],
  ['{"execute":"query-block","arguments":{"x":1}}', "Parameter 'x' is unexpected"],
  [
    '{"execute":"transaction","arguments":{"actions":[],"properties":[]}}',
    "Invalid parameter type for 'properties', expected: object",
  ],
];
