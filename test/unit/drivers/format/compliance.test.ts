// The suite of format-compliance.ts for raw, qcow2 and the toy of the tests; LUKS needs real time and is in unit/api/luks.
import { checkedQcow2 } from "../../../../src/drivers/format/qcow2/checked.ts";
import { raw } from "../../../../src/drivers/format/raw.ts";
import { testFormat } from "../../support/format-compliance.ts";
import { toy } from "../../support/toy-format/index.ts";

testFormat({ type: raw, probes: false });
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
