// The policy table, and the guard of strictErrorPolicy.
import { describe, expect, test } from "vitest";
import {
  type DevicePolicy,
  type OnError,
  checkErrorPolicy,
  decideErrorAction,
  ioStatusFor,
} from "../../../src/job/core/error-policy.ts";
import { valuesOf } from "../../../src/wire/qapi/index.ts";

test.each([
  ["report", "EIO", "report"],
  ["report", "ENOSPC", "report"],
  ["ignore", "EIO", "ignore"],
  ["ignore", "ENOSPC", "ignore"],
  ["stop", "EIO", "stop"],
  ["stop", "ENOSPC", "stop"],
  ["enospc", "EIO", "report"],
  ["enospc", "ENOSPC", "stop"],
  ["auto", "EIO", "report"],
  ["auto", "ENOSPC", "stop"],
] as const)("%s on %s: %s", (policy, code, action) => {
  expect(decideErrorAction(policy, code)).toBe(action);
});

test("only ENOSPC makes nospace", () => {
  expect(ioStatusFor("ENOSPC")).toBe("nospace");
  expect(ioStatusFor("EDQUOT")).toBe("failed");
  expect(ioStatusFor("EIO")).toBe("failed");
});

describe("strictErrorPolicy", () => {
  const policies = ["report", "ignore", "stop", "enospc"] as const;
  const devices = policies.flatMap((rerror) =>
    policies.flatMap((werror) =>
      [true, false].map((iostatusEnabled) => ({ rerror, werror, iostatusEnabled })),
    ),
  );

  function refused(policy: OnError, device: DevicePolicy | undefined, strict = true): boolean {
    try {
      checkErrorPolicy({ strict, jobType: "stream", policy, argument: "on-error", device });
      return false;
    } catch {
      return true;
    }
  }

  test.each(devices)("rerror=$rerror werror=$werror iostatus=$iostatusEnabled", (device) => {
    const stops = device.iostatusEnabled && device.rerror === "stop" && /^(stop|enospc)$/.test(device.werror);
    expect(refused("stop", device)).toBe(!stops);
    expect(refused("enospc", device)).toBe(!stops);
    for (const policy of ["report", "ignore", "auto"] as const) expect(refused(policy, device)).toBe(false);
  });

  test("a node without a device cannot stop its guest", () => {
    expect(refused("stop", undefined)).toBe(true);
  });

  test("off, everything goes, as in QEMU 7.2", () => {
    for (const policy of valuesOf("BlockdevOnError")) expect(refused(policy, undefined, false)).toBe(false);
  });

  test.each([
    ["stream", "on-error", "Invalid parameter 'on-error'"],
    ["mirror", "on-source-error", "Invalid parameter 'on-source-error'"],
    ["commit", "on-error", "Invalid parameter combination"],
  ] as const)("%s refuses in QEMU's words", (jobType, argument, words) => {
    const check = { strict: true, jobType, policy: "stop", argument, device: undefined } as const;
    expect(() => checkErrorPolicy(check)).toThrow(words);
  });
});
