// Names of images for headers, against one that the real program wrote.
import { expect, test } from "vitest";
import type { BlockNode } from "../../../src/block/model/node.ts";
import { nodeFilename } from "../../../src/block/model/filename.ts";

interface Made {
  driver: string;
  kind: "protocol" | "format" | "filter";
  spec: Record<string, unknown>;
  child?: { name: string; node: BlockNode };
  implicit?: boolean;
  namedBy?: string[];
}

/** As much of a node as a name needs. */
function make({ driver, kind, spec, child, implicit, namedBy }: Made): BlockNode {
  const children = child ? [{ name: child.name, node: child.node }] : [];
  return {
    type: { name: driver, kind, namedBy },
    isFilter: kind === "filter",
    implicit: implicit ?? false,
    spec: { driver, ...spec },
    children,
    file: children.find(({ name }) => name === "file"),
    filtered: kind === "filter" ? children[0] : undefined,
  } as unknown as BlockNode;
}

const file = make({ driver: "file", kind: "protocol", spec: { filename: "base.raw", "node-name": "f" } });

test("a format over a file goes by the file's name", () => {
  const raw = make({
    driver: "raw",
    kind: "format",
    spec: { file: "f", "read-only": true },
    child: { name: "file", node: file },
  });
  expect(nodeFilename(raw)).toBe("base.raw");
});

test("an implicit filter goes by what it presents", () => {
  const filter = make({
    driver: "copy-on-read",
    kind: "filter",
    spec: {},
    child: { name: "file", node: file },
    implicit: true,
  });
  expect(nodeFilename(filter)).toBe("base.raw");
});

test("anything else is described, with keys in QEMU's order", () => {
  const rules = [{ event: "none", iotype: "write", errno: 5, sector: 512, once: true }];
  const debug = make({
    driver: "blkdebug",
    kind: "filter",
    spec: { "node-name": "d", image: "f", "inject-error": rules },
    child: { name: "image", node: file },
  });
  const raw = make({
    driver: "raw",
    kind: "format",
    spec: { file: "d" },
    child: { name: "file", node: debug },
  });
  expect(nodeFilename(raw)).toBe(
    'json:{"driver": "raw", "file": {"inject-error.0.once": true, "image": {"driver": "file", "filename": "base.raw"}, ' +
      '"driver": "blkdebug", "inject-error.0.iotype": "write", "inject-error.0.event": "none", ' +
      '"inject-error.0.errno": 5, "inject-error.0.sector": 512}}',
  );
});

test("options that change what is shown are part of the name", () => {
  const raw = make({
    driver: "raw",
    kind: "format",
    spec: { file: "f", offset: 512 },
    child: { name: "file", node: file },
  });
  expect(nodeFilename(raw)).toContain('"offset": 512');
});

test("options that say how a node is used are none, at any depth", () => {
  const used = { file: "f", "lazy-refcounts": true, encrypt: { format: "luks", "key-secret": "s" } };
  const qcow2 = (spec: Record<string, unknown>): BlockNode =>
    make({
      driver: "qcow2",
      kind: "format",
      spec,
      child: { name: "file", node: file },
      namedBy: ["encrypt.key-secret"],
    });
  expect(nodeFilename(qcow2({ file: "f", "lazy-refcounts": true }))).toBe("base.raw");
  expect(nodeFilename(qcow2(used))).toBe(
    'json:{"encrypt.key-secret": "s", "driver": "qcow2", "file": {"driver": "file", "filename": "base.raw"}}',
  );
});
