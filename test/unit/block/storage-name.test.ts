// Storage by the name that a command gives it: paths, protocols, what a name leads to, and where an image can be made.
import { expect, it } from "vitest";
import { newFileName, newStorage, storageByName, typeOfName } from "../../../src/block/graph/storage-name.ts";
import type { DriverType } from "../../../src/block/model/contract.ts";
import { nullCo } from "../../../src/drivers/protocol/null-co.ts";
import { TestGraph } from "../support/graph.ts";

const open: DriverType["open"] = () => Promise.reject(new Error("it was opened"));
const made = (): Promise<void> => Promise.resolve();

/** A graph with a driver of files that reads no names, and protocols of a few kinds. */
function graphWith(file: Partial<DriverType> = {}): TestGraph["graph"] {
  const { graph } = new TestGraph();
  graph.register(
    nullCo,
    { name: "file", kind: "protocol", open, ...file },
    {
      name: "slot",
      kind: "protocol",
      open,
      parseName: () => ({ options: { number: "3" } }),
      makeInPlace: made,
    },
    {
      name: "pair",
      kind: "protocol",
      open,
      parseName: (name) => ({ options: {}, children: { image: { name: name.slice("pair:".length) } } }),
    },
  );
  return graph;
}

it("a path is a file's, and the protocol before a colon says whose else", async () => {
  const graph = graphWith();
  expect(
    ["a.img", "dir/a:b.img", "null-co://", "pair:x"].map((name) => typeOfName(graph, name).name),
  ).toEqual([...["file", "file", "null-co", "pair"]]);
  expect(() => typeOfName(graph, "frob:x")).toThrow("Unknown protocol 'frob'");
  expect(await storageByName(graph, "a.img")).toEqual({ driver: "file", filename: "a.img" });
  expect(await storageByName(graph, "pair:slot:")).toEqual({
    driver: "pair",
    image: { driver: "slot", number: "3" },
  });
  expect(() => typeOfName(new TestGraph().graph, "a.img")).toThrow("Unknown protocol 'file'");
});

it("an image is made in a file, or in a slot that is there", () => {
  const graph = graphWith({ create: made });
  expect(newStorage(graph, "a.img")).toEqual({
    filename: "a.img",
    file: { driver: "file", filename: "a.img" },
  });
  expect(newFileName(graph, "a.img")).toBe("a.img");
  expect(newStorage(graph, "slot:")).toEqual({ filename: undefined, file: { driver: "slot", number: "3" } });
  expect(() => newFileName(graph, "slot:")).toThrow("'slot:' is no file that can be made");
  for (const name of ["null-co://", "pair:x"])
    expect(() => newStorage(graph, name)).toThrow("does not support image creation");
  expect(() => newStorage(graphWith(), "a.img")).toThrow(
    "Protocol driver 'file' does not support image creation",
  );
});
