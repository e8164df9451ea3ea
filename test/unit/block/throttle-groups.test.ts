// Groups of limits that are there for their members only.
import { expect, it } from "vitest";
import { throttleGroupsOf } from "../../../src/block/throttle/throttle.ts";
import { TestGraph } from "../support/graph.ts";

it("a group that a member made goes with its last member, and one that was made for itself stays", () => {
  const { graph } = new TestGraph();
  const groups = throttleGroupsOf(graph);
  expect(throttleGroupsOf(graph)).toBe(groups);
  const [one, two] = [groups.join("passing"), groups.join("passing")];
  const group = groups.get("passing");
  expect([one.group, two.group]).toEqual([group, group]);
  groups.leave(one);
  expect(groups.get("passing")).toBe(group);
  groups.leave(two);
  expect(groups.get("passing")).toBeUndefined();
  const own = groups.add("own");
  groups.leave(groups.join("own"));
  expect(groups.get("own")).toBe(own);
});
