/**
 * Finds the policy of the guest device over a node, for the guard of strictErrorPolicy. Devices announce themselves
 * here, since the machine is a layer above.
 */
import type { BlockNode } from "../../block/model/node.ts";
import type { DevicePolicy } from "./error-policy.ts";
import type { ChildParent } from "../../block/model/node.ts";

const policies = new WeakMap<ChildParent, DevicePolicy>();

/** A guest device announces the policy of its block backend. */
export function announceDevicePolicy(backend: ChildParent, policy: DevicePolicy): void {
  policies.set(backend, policy);
}

/** The policy of the device that uses the node directly; undefined where no device does. */
export function devicePolicyOf(node: BlockNode): DevicePolicy | undefined {
  for (const edge of node.parents) {
    const policy = policies.get(edge.parent);
    if (policy) return policy;
  }
  return undefined;
}
