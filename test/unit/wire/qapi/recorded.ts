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
  ['{"execute":"blockdev-add","arguments":{}}', "Parameter 'driver' is missing"],
  [
    '{"execute":"blockdev-add","arguments":{"driver":7}}',
    "Invalid parameter type for 'driver', expected: string",
  ],
  ['{"execute":"blockdev-add","arguments":{"driver":"file"}}', "Parameter 'filename' is missing"],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"file","node-name":1}}',
    "Invalid parameter type for 'node-name', expected: string",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"file","filename":1}}',
    "Invalid parameter type for 'filename', expected: string",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"file","filename":"x","zz":1}}',
    "Parameter 'zz' is unexpected",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"raw","file":7}}',
    "Invalid parameter type for 'file', expected: BlockdevRef",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"raw","file":null}}',
    "Invalid parameter type for 'file', expected: BlockdevRef",
  ],
  ['{"execute":"blockdev-add","arguments":{"driver":"raw","file":{}}}', "Parameter 'file.driver' is missing"],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"raw","file":{"driver":"x"}}}',
    "Parameter 'driver' does not accept value 'x'",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"raw","file":{"driver":"file"}}}',
    "Parameter 'file.filename' is missing",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"raw","file":{"driver":"file","filename":"a","x":1}}}',
    "Parameter 'file.x' is unexpected",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"raw","file":[]}}',
    "Invalid parameter type for 'file', expected: BlockdevRef",
  ],
  ['{"execute":"blockdev-add","arguments":{"driver":"raw"}}', "Parameter 'file' is missing"],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"raw","file":{"driver":"raw","file":{"driver":"file","filename":3}}}}',
    "Invalid parameter type for 'file.file.filename', expected: string",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"raw","file":{"driver":"file","filename":"a","cache":{"direct":3}}}}',
    "Invalid parameter type for 'file.cache.direct', expected: boolean",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"raw","file":{"driver":"file","filename":"a","cache":{"zz":3}}}}',
    "Parameter 'file.cache.zz' is unexpected",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"raw","file":{"driver":"file","filename":"a","cache":3}}}',
    "Invalid parameter type for 'file.cache', expected: object",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"qcow2","file":"x","backing":7}}',
    "Invalid parameter type for 'backing', expected: BlockdevRefOrNull",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"qcow2","file":"x","backing":true}}',
    "Invalid parameter type for 'backing', expected: BlockdevRefOrNull",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"qcow2","file":"x","overlap-check":3}}',
    "Invalid parameter type for 'overlap-check', expected: Qcow2OverlapChecks",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"qcow2","file":"x","overlap-check":"foo"}}',
    "Parameter 'overlap-check' does not accept value 'foo'",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"qcow2","file":"x","overlap-check":{"template":"foo"}}}',
    "Parameter 'template' does not accept value 'foo'",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"blkdebug","image":"x","inject-error":{}}}',
    "Invalid parameter type for 'inject-error', expected: array",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"blkdebug","image":"x","inject-error":[1]}}',
    "Invalid parameter type for 'inject-error[0]', expected: object",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"blkdebug","image":"x","inject-error":[{}]}}',
    "Parameter 'inject-error[0].event' is missing",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"blkdebug","image":"x","inject-error":[{"event":"none"},{"event":"foo"}]}}',
    "Parameter 'event' does not accept value 'foo'",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"blkdebug","image":"x","inject-error":[{"event":"none","zz":1}]}}',
    "Parameter 'inject-error[0].zz' is unexpected",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"blkdebug","image":"x","take-child-perms":["write",7]}}',
    "Invalid parameter type for 'take-child-perms[1]', expected: string",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"blkdebug","image":"x","take-child-perms":["foo"]}}',
    "Parameter 'null' does not accept value 'foo'",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"blkdebug","image":"x","max-transfer":4294967296}}',
    "Parameter 'max-transfer' expects int32_t",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"blkdebug","image":"x","max-transfer":-2147483649}}',
    "Parameter 'max-transfer' expects int32_t",
  ],
  ['{"execute":"blockdev-add","arguments":{"driver":"blkdebug","image":"x","align":4294967296}}', null],
  ['{"execute":"blockdev-add","arguments":{"driver":"null-co","latency-ns":-1,"node-name":"n1"}}', null],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"null-co","node-name":"n2","latency-ns":18446744073709551615}}',
    null,
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"null-co","node-name":"n3","latency-ns":18446744073709551616}}',
    "Parameter 'latency-ns' expects uint64",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"null-co","latency-ns":1.5}}',
    "Parameter 'latency-ns' expects uint64",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"null-co","latency-ns":"1"}}',
    "Parameter 'latency-ns' expects uint64",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"null-co","size":"1k"}}',
    "Invalid parameter type for 'size', expected: integer",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"copy-before-write","file":"a","target":"b","cbw-timeout":4294967296}}',
    "Parameter 'cbw-timeout' expects uint32_t",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"copy-before-write","file":"a","target":"b","bitmap":{"node":"a"}}}',
    "Parameter 'bitmap.name' is missing",
  ],
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
  ['{"execute":"blockdev-add","arguments":{"driver":"raw","file":"x","offset":1099511627776}}', null],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"raw","file":"x","offset":"1"}}',
    "Invalid parameter type for 'offset', expected: integer",
  ],
  ['{"execute":"blockdev-add","arguments":{"driver":"raw","file":"x","size":1099511627776}}', null],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"raw","file":"x","size":"1"}}',
    "Invalid parameter type for 'size', expected: integer",
  ],
  ['{"execute":"blockdev-add","arguments":{"driver":"qcow2","file":"x","cache-size":1099511627776}}', null],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"qcow2","file":"x","cache-size":"1"}}',
    "Invalid parameter type for 'cache-size', expected: integer",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"qcow2","file":"x","l2-cache-size":1099511627776}}',
    null,
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"qcow2","file":"x","l2-cache-size":"1"}}',
    "Invalid parameter type for 'l2-cache-size', expected: integer",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"qcow2","file":"x","l2-cache-entry-size":1099511627776}}',
    null,
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"qcow2","file":"x","l2-cache-entry-size":"1"}}',
    "Invalid parameter type for 'l2-cache-entry-size', expected: integer",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"qcow2","file":"x","refcount-cache-size":1099511627776}}',
    null,
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"qcow2","file":"x","refcount-cache-size":"1"}}',
    "Invalid parameter type for 'refcount-cache-size', expected: integer",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"qcow2","file":"x","cache-clean-interval":1099511627776}}',
    null,
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"qcow2","file":"x","cache-clean-interval":"1"}}',
    "Invalid parameter type for 'cache-clean-interval', expected: integer",
  ],
  ['{"execute":"blockdev-add","arguments":{"driver":"blkdebug","image":"x","align":1099511627776}}', null],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"blkdebug","image":"x","align":"1"}}',
    "Invalid parameter type for 'align', expected: integer",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"blkdebug","image":"x","max-transfer":1099511627776}}',
    "Parameter 'max-transfer' expects int32_t",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"blkdebug","image":"x","max-transfer":"1"}}',
    "Invalid parameter type for 'max-transfer', expected: integer",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"blkdebug","image":"x","opt-write-zero":1099511627776}}',
    "Parameter 'opt-write-zero' expects int32_t",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"blkdebug","image":"x","opt-write-zero":"1"}}',
    "Invalid parameter type for 'opt-write-zero', expected: integer",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"blkdebug","image":"x","max-write-zero":1099511627776}}',
    "Parameter 'max-write-zero' expects int32_t",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"blkdebug","image":"x","max-write-zero":"1"}}',
    "Invalid parameter type for 'max-write-zero', expected: integer",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"blkdebug","image":"x","opt-discard":1099511627776}}',
    "Parameter 'opt-discard' expects int32_t",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"blkdebug","image":"x","opt-discard":"1"}}',
    "Invalid parameter type for 'opt-discard', expected: integer",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"blkdebug","image":"x","max-discard":1099511627776}}',
    "Parameter 'max-discard' expects int32_t",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"blkdebug","image":"x","max-discard":"1"}}',
    "Invalid parameter type for 'max-discard', expected: integer",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"file","filename":"x","aio-max-batch":1099511627776}}',
    null,
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"file","filename":"x","aio-max-batch":"1"}}',
    "Invalid parameter type for 'aio-max-batch', expected: integer",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"copy-before-write","file":"x","target":"y","cbw-timeout":1099511627776}}',
    "Parameter 'cbw-timeout' expects uint32_t",
  ],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"copy-before-write","file":"x","target":"y","cbw-timeout":"1"}}',
    "Parameter 'cbw-timeout' expects uint64",
  ],
  ['{"execute":"blockdev-add","arguments":{"driver":"null-co","size":1099511627776}}', null],
  [
    '{"execute":"blockdev-add","arguments":{"driver":"null-co","size":"1"}}',
    "Invalid parameter type for 'size', expected: integer",
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
  [
    '{"execute":"blockdev-add","arguments":{"driver":"constructor"}}',
    "Parameter 'driver' does not accept value 'constructor'",
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
