// blkdebug's config files and options: what is read, and what is refused in which words.
import { describe, expect, it } from "vitest";
import { BlockError } from "../../../../src/base/errors.ts";
import type { HostFiles } from "../../../../src/base/host.ts";
import type { BlkdebugRules } from "../../../../src/drivers/filter/blkdebug-rules.ts";
import { readRules } from "../../../../src/drivers/filter/blkdebug-config.ts";
import { VirtualHost } from "../../support/virtual-host.ts";

/** Files of which there is one, "rules". */
function filesWith(text: string): HostFiles {
  const bytes = new TextEncoder().encode(text);
  const file = {
    size: () => Promise.resolve(bytes.byteLength),
    read: (buffer: Uint8Array) => {
      buffer.set(bytes.subarray(0, buffer.byteLength));
      return Promise.resolve(bytes.byteLength);
    },
    close: () => Promise.resolve(),
  };
  const open = (path: string): Promise<unknown> =>
    path === "rules" ? Promise.resolve(file) : Promise.reject(new BlockError({ code: "ENOENT", op: "open" }));
  return { ...new VirtualHost().files, open: open as HostFiles["open"] };
}

function read(text: string, options: Record<string, unknown> = {}): Promise<BlkdebugRules> {
  return readRules({ driver: "blkdebug", config: "rules", ...options }, filesWith(text));
}

describe("blkdebug config file", () => {
  it("reads rules with defaults, comments and ids, before those of the options", async () => {
    const text = [
      "# a comment",
      "[inject-error]",
      'event = "read_aio"',
      "",
      '[inject-error "two"]',
      '  event = "write_aio"',
      'iotype = "write"',
      'errno = "28"',
      'sector = "0x10"',
      'state = "2"',
      'once = "on"',
      'immediately = "off"',
      "[set-state]",
      'event = "l2_load"',
      'new_state = "2"',
    ].join("\n");
    const rules = await read(text, {
      "inject-error": [{ event: "none" }],
      "set-state": [{ event: "cow_read", state: 3, new_state: 4 }],
    });
    const plain = { state: 0, iotype: undefined, errno: 5, sector: -1, once: false, immediately: false };
    expect(rules.injectError).toEqual([
      { ...plain, event: "read_aio" },
      {
        event: "write_aio",
        state: 2,
        iotype: "write",
        errno: 28,
        sector: 16,
        once: true,
        immediately: false,
      },
      { ...plain, event: "none" },
    ]);
    expect(rules.setState).toEqual([
      { event: "l2_load", state: 0, newState: 2 },
      { event: "cow_read", state: 3, newState: 4 },
    ]);
  });

  it.each([
    ["foo\n", "no group defined"],
    ['event = "x"\n', "no group defined"],
    ["[bad]\n", "There is no option group 'bad'"],
    ['[inject-error]\nfoo = "1"\n', "Invalid parameter 'foo'"],
    ['[inject-error]\nevent = "foo"\n', "invalid parameter value: foo"],
    ["[inject-error]\nevent = read_aio\n", "invalid parameter value: "],
    ['[inject-error]\nevent = "read_aio"\nerrno = "x"\n', "Parameter 'errno' expects a number"],
    ['[inject-error]\nevent = "read_aio"\nerrno="7"', "Invalid parameter 'errno=\"7\"'"],
    ["[inject-error]\n", "Missing event name for rule"],
    ['[inject-error]\nevent = "read_aio"\niotype = "foo"\n', "invalid parameter value: foo"],
    ['[inject-error]\nevent = "read_aio"\nonce = "maybe"\n', "Parameter 'once' expects 'on' or 'off'"],
    ["   \n", "parse error"],
  ])("refuses %j in QEMU's words", async (text, message) => {
    await expect(read(text)).rejects.toMatchObject({ message, code: "EINVAL" });
  });

  it("names a file that can't be read", async () => {
    await expect(read("", { config: "missing" })).rejects.toMatchObject({
      message: "Could not read blkdebug config file: No such file or directory",
      code: "ENOENT",
    });
  });

  it("checks options that no schema has checked", async () => {
    const options = (rules: unknown): Promise<BlkdebugRules> =>
      readRules({ driver: "blkdebug", "inject-error": rules }, filesWith(""));
    await expect(options("x")).rejects.toThrow("Invalid parameter type for 'inject-error', expected: array");
    await expect(options([{ event: "none", errno: "5" }])).rejects.toThrow("'errno', expected: integer");
    await expect(options([{ event: "none", colour: 1 }])).rejects.toThrow("Parameter 'colour' is unexpected");
    await expect(options([{}])).rejects.toThrow("Missing event name for rule");
  });
});
