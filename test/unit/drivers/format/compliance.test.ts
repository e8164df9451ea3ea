// The suite of format-compliance.ts for raw, luks, qcow2 (encrypted, too) and the toy of the tests.
import { luks } from "../../../../src/drivers/format/luks/index.ts";
import { checkedQcow2 } from "../../../../src/drivers/format/qcow2/checked.ts";
import { raw } from "../../../../src/drivers/format/raw.ts";
import { type FormatManifest, testFormat } from "../../support/format-compliance.ts";
import { toy } from "../../support/toy-format/index.ts";

testFormat({ type: raw, probes: false });

const key = { "key-secret": "s0" };
const prepare: FormatManifest["prepare"] = ({ graph }) =>
  graph.secrets.set("s0", new TextEncoder().encode("abc"));

testFormat({
  type: luks,
  createOptions: { ...key, "iter-time": 1 },
  openOptions: key,
  prepare,
  isSlow: true,
  readsZeroes: false,
  badOptions: [{ "key-secret": "none" }, { "cipher-mode": "ecc" }, { "iter-time": 2 ** 33 }],
});
testFormat({ type: toy, badOptions: [{ "cluster-size": 1000 }, { size: 2 ** 40 }] });
testFormat({
  type: checkedQcow2,
  backing: true,
  badOptions: [{ "cluster-size": 1000 }, { size: 100 }, { "refcount-bits": 3 }],
});
testFormat({ type: checkedQcow2, backing: true, createOptions: { "cluster-size": 512, "refcount-bits": 1 } });
testFormat({
  type: checkedQcow2,
  backing: true,
  createOptions: { "extended-l2": true, "cluster-size": 16_384 },
});
testFormat({
  type: checkedQcow2,
  backing: true,
  createOptions: { encrypt: { format: "luks", "iter-time": 1, ...key } },
  openOptions: { encrypt: { format: "luks", ...key } },
  prepare,
  isSlow: true,
});
