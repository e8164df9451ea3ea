/** Option strings against what qemu-storage-daemon 7.2 said to the same command lines. */
import { describe, expect, it } from "vitest";
import { parseKeyval, parseOption } from "../../../../src/wire/qapi/index.ts";

const LONG = "a".repeat(130);

describe("--blockdev refusals", () => {
  it.each([
    ["", "Parameter 'driver' is missing"],
    ["driver", "Parameter 'driver' does not accept value 'driver'"],
    ["driver=", "Parameter 'driver' does not accept value ''"],
    ["file", "Parameter 'filename' is missing"],
    ["file,filename=x,zz=1", "Parameter 'zz' is unexpected"],
    ["driver=null-co,node-name=a,size=1k", "Parameter 'size' expects integer"],
    ["driver=null-co,node-name=a,size=x", "Parameter 'size' expects integer"],
    ["driver=null-co,node-name=a,size=", "Parameter 'size' expects integer"],
    ["driver=null-co,node-name=a,size=5 ", "Parameter 'size' expects integer"],
    ["driver=null-co,node-name=a,size=1.5", "Parameter 'size' expects integer"],
    ["driver=null-co,node-name=a,size=99999999999999999999", "Parameter 'size' expects integer"],
    ["driver=null-co,node-name=a,latency-ns=x", "Parameter 'latency-ns' expects integer"],
    ["driver=null-co,node-name=a,read-zeroes=maybe", "Parameter 'read-zeroes' expects 'on' or 'off'"],
    ["driver=null-co,node-name=a,read-zeroes=On", "Parameter 'read-zeroes' expects 'on' or 'off'"],
    ["driver=null-co,node-name=a,read-zeroes", "Expected '=' after parameter 'read-zeroes'"],
    ["driver=null-co,node-name=a,cache.direct=1", "Parameter 'cache.direct' expects 'on' or 'off'"],
    ["driver=null-co,node-name=a,cache=1", "Invalid parameter type for 'cache', expected: object"],
    ["driver=null-co,cache.direct=on,cache=1", "Parameters 'cache.*' used inconsistently"],
    ["driver=null-co,cache=1,cache.direct=on", "Parameters 'cache.*' used inconsistently"],
    ["driver=null-co,node-name=a,node-name=b,zz=2", "Parameter 'zz' is unexpected"],
    ["=x", "Invalid parameter ''"],
    ["driver=null-co,=x", "Invalid parameter ''"],
    [",driver=null-co", "Invalid parameter ''"],
    ["driver=null-co,a..b=1", "Invalid parameter 'a..b'"],
    ["driver=null-co,.a=1", "Invalid parameter '.a'"],
    ["driver=null-co,a.=1", "Invalid parameter 'a.'"],
    ["driver=null-co,a b=1", "Invalid parameter 'a b'"],
    ["driver=null-co,1a=2", "Invalid parameter '1a'"],
    ["driver=null-co,a.1b=2", "Invalid parameter 'a.1b'"],
    ["driver=null-co,_a=2", "Invalid parameter '_a'"],
    ["driver=null-co,-a=2", "Invalid parameter '-a'"],
    ["driver=null-co,99999999999.a=2", "Invalid parameter '99999999999.a'"],
    [`driver=null-co,${LONG}=2`, `Parameter '${LONG}' is too long`],
    [`driver=null-co,a.b.${LONG}=2`, `Parameter fragment '${LONG}' is too long`],
    [
      "blkdebug,image=x,inject-error.0.event=none,inject-error.2.event=none",
      "Parameter 'inject-error.1' missing",
    ],
    ["blkdebug,image=x,inject-error.1.event=none", "Parameter 'inject-error.0' missing"],
    ["blkdebug,image=x,inject-error.0.event=foo", "Parameter 'event' does not accept value 'foo'"],
    [
      "blkdebug,image=x,inject-error.0.event=none,inject-error.0.errno=x",
      "Parameter 'inject-error.0.errno' expects integer",
    ],
    [
      "blkdebug,image=x,inject-error.0.event=none,inject-error.foo=1",
      "Parameters 'inject-error.*' used inconsistently",
    ],
    ["blkdebug,image=x,inject-error=3", "Invalid parameter type for 'inject-error', expected: array"],
    ["blkdebug,image=x,max-transfer=4294967296", "Parameter 'max-transfer' expects int32_t"],
    ["blkdebug,image=x,take-child-perms.0=foo", "Parameter 'null' does not accept value 'foo'"],
    ["raw,node-name=a,file.driver=null-co,file.size=zz", "Parameter 'file.size' expects integer"],
    ["raw,node-name=a,file.driver=null-co,file.yy=zz", "Parameter 'file.yy' is unexpected"],
    ["qcow2,file=x,overlap-check=foo", "Parameter 'overlap-check' does not accept value 'foo'"],
    ["driver=null-co,a,b=1", "Expected '=' after parameter 'a'"],
    ["help", "Help is not available for this option"],
    ["driver=null-co,help", "Help is not available for this option"],
    ["{", "JSON parse error, premature EOI"],
    ["{}", "Parameter 'driver' is missing"],
    ["[]", "Parameter 'driver' does not accept value '[]'"],
    [' {"driver":"x"}', `Parameter 'driver' does not accept value ' {"driver":"x"}'`],
    ['{"driver":"null-co","latency-ns":1e3}', "Parameter 'latency-ns' expects uint64"],
  ])("%s", (text, refusal) => {
    expect(() => parseOption("BlockdevOptions", text, { impliedKey: "driver" })).toThrow(
      expect.objectContaining({ name: "QapiError", message: refusal }),
    );
  });
});

describe("--blockdev readings", () => {
  it.each([
    ["null-co,node-name=a,size=0x10", { driver: "null-co", "node-name": "a", size: 16 }],
    ["null-co,node-name=a,size=010", { driver: "null-co", "node-name": "a", size: 8 }],
    ["null-co,node-name=a,size= +5", { driver: "null-co", "node-name": "a", size: 5 }],
    ["null-co,node-name=a,", { driver: "null-co", "node-name": "a" }],
    ["null-co,node-name=a,node-name=b", { driver: "null-co", "node-name": "b" }],
    ["file,filename=a,,b=c", { driver: "file", filename: "a,b=c" }],
    ["null-co,read-zeroes=yes", { driver: "null-co", "read-zeroes": true }],
    ["null-co,read-zeroes=n", { driver: "null-co", "read-zeroes": false }],
    ["memory,size=1.5k", { driver: "memory", size: 1536 }],
    [
      "driver=raw,file.driver=file,file.filename=x,file.cache.direct=on",
      { driver: "raw", file: { driver: "file", filename: "x", cache: { direct: true } } },
    ],
    [
      "blkdebug,image=f,inject-error.1.event=none,inject-error.0.event=l2_load,inject-error.0.once=on",
      {
        driver: "blkdebug",
        image: "f",
        "inject-error": [{ event: "l2_load", once: true }, { event: "none" }],
      },
    ],
    ['{"driver":"raw","file":"x"}', { driver: "raw", file: "x" }],
  ])("%s", (text, value) => {
    expect(parseOption("BlockdevOptions", text, { impliedKey: "driver" })).toEqual(value);
  });
});

describe("sizes", () => {
  const sizeOf = (text: string): unknown => parseOption("BlockdevOptionsMemory", `size=${text}`).size;
  it.each([
    ["64K", 65536],
    ["0.5M", 524288],
    ["1b", 1],
    ["1B", 1],
    ["1.k", 1024],
    [" 1", 1],
    ["2t", 2 * 1024 ** 4],
    ["0x10", 16],
  ])("%s", (text, bytes) => {
    expect(sizeOf(text)).toBe(bytes);
  });

  it.each(["1x", "1.5", "-1", "1kk", "", "1e3", "99999999999E", ".5k", "1_"])("refuses '%s'", (text) => {
    expect(() => sizeOf(text)).toThrow("Parameter 'size' expects size");
  });
});

describe("other options", () => {
  it.each([
    ["throttle-group", "Parameter 'id' is missing"],
    ["throttle-group,id=t,limits.iops-total=1k", "Parameter 'limits.iops-total' expects integer"],
    ["secret,id=s,data=x,format=y", "Parameter 'format' does not accept value 'y'"],
    ["foo,id=x", "Parameter 'qom-type' does not accept value 'foo'"],
    ["id=x", "Parameter 'qom-type' is missing"],
  ])("--object %s", (text, refusal) => {
    expect(() => parseOption("ObjectOptions", text, { impliedKey: "qom-type" })).toThrow(refusal);
  });

  it.each([
    ["", "Parameter 'chardev' is missing"],
    ["chardev=c,mode=foo", "Parameter 'mode' does not accept value 'foo'"],
    ["chardev=c,pretty=maybe", "Parameter 'pretty' expects 'on' or 'off'"],
    ["chardev=c,zz=1", "Parameter 'zz' is unexpected"],
    ['{"chardev":1}', "Invalid parameter type for 'chardev', expected: string"],
  ])("--monitor %s", (text, refusal) => {
    expect(() => parseOption("MonitorOptions", text, { impliedKey: "chardev" })).toThrow(refusal);
  });

  it("keeps a prototype's names as plain keys", () => {
    const value = parseKeyval("a.constructor.x=1,a.toString=2");
    expect(JSON.stringify(value)).toBe('{"a":{"constructor":{"x":"1"},"toString":"2"}}');
  });
});
