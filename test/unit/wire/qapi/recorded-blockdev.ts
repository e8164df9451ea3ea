/**
 * What qemu-storage-daemon 7.2.22 answered to each of these blockdev-add messages, recorded once: the text of its refusal, or null
 * where the arguments passed and only the command itself could have failed.
 */
export const recordedBlockdev: readonly (readonly [message: string, refusal: string | null])[] = [
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
    '{"execute":"blockdev-add","arguments":{"driver":"constructor"}}',
    "Parameter 'driver' does not accept value 'constructor'",
  ],
];
