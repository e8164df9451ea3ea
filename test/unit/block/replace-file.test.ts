// Making a file anew beside the one that is there: what its user is told, and what a full file system does to the old one.
import { describe, expect, it } from "vitest";
import { BlockError } from "../../../src/base/errors.ts";
import type { HostFiles } from "../../../src/base/host.ts";
import { replaceFile } from "../../../src/block/model/replace-file.ts";
import { VirtualHost } from "../support/virtual-host.ts";

const DRAFT = "/disks/.a.img.draft";

/** Files with drafts, and what was done to them. */
function files(done: string[], room = true): HostFiles {
  const { files: plain } = new VirtualHost();
  return {
    ...plain,
    resolve: (base, path) => plain.resolve(base, path),
    draft: () =>
      Promise.resolve({
        path: DRAFT,
        publish: ({ durable }: { durable: boolean }) => {
          done.push(`published${durable ? ", durable" : ""}`);
          return Promise.resolve();
        },
        discard: () => {
          done.push("discarded");
          return Promise.resolve();
        },
      }),
    create: (_name, { neededBytes }) => {
      done.push(`emptied for ${neededBytes ?? 0}`);
      if (room) return Promise.resolve();
      return Promise.reject(new BlockError({ code: "ENOSPC", op: "create", message: "no room at all" }));
    },
  } as HostFiles;
}

const failing =
  (done: string[], code: "EIO" | "ENOSPC") =>
  (name: string): Promise<string> => {
    done.push(`made ${name}`);
    if (name !== DRAFT) return Promise.resolve("whole");
    return Promise.reject(new BlockError({ code, op: "create", message: `Could not write '${name}'` }));
  };

describe("a draft", () => {
  it("takes the file's place when it is whole", async () => {
    const done: string[] = [];
    const make = (name: string): Promise<number> => Promise.resolve(done.push(`made ${name}`));
    await replaceFile(files(done), "/disks/a.img", make);
    await replaceFile(files(done), "/disks/a.img", make, { durable: false });
    expect(done).toEqual([`made ${DRAFT}`, "published, durable", `made ${DRAFT}`, "published"]);
  });

  it("that fails is discarded, and the error has the name that its user knows", async () => {
    const done: string[] = [];
    await expect(replaceFile(files(done), "/disks/a.img", failing(done, "EIO"))).rejects.toMatchObject({
      code: "EIO",
      message: "Could not write '/disks/a.img'",
    });
    expect(done).toEqual([`made ${DRAFT}`, "discarded"]);
    const other = new Error("of something else");
    await expect(replaceFile(files(done), "/disks/a.img", () => Promise.reject(other))).rejects.toBe(other);
  });
});

describe("without room for both", () => {
  it("the old one is emptied where the new one plainly fits then, and overwritten where nobody knows", async () => {
    const done: string[] = [];
    const neededBytes = (): Promise<number> => Promise.resolve(4096);
    const make = failing(done, "ENOSPC");
    expect(await replaceFile(files(done), "/disks/a.img", make, { neededBytes })).toBe("whole");
    expect(done).toEqual([`made ${DRAFT}`, "discarded", "emptied for 4096", "made /disks/a.img"]);
    done.length = 0;
    expect(await replaceFile(files(done), "/disks/a.img", make)).toBe("whole");
    expect(done).toEqual([`made ${DRAFT}`, "discarded", "made /disks/a.img"]);
  });

  it("it stays where the new one does not fit either", async () => {
    const done: string[] = [];
    const neededBytes = (): Promise<number> => Promise.resolve(2 ** 40);
    await expect(
      replaceFile(files(done, false), "/disks/a.img", failing(done, "ENOSPC"), { neededBytes }),
    ).rejects.toThrow("no room at all");
    expect(done).toEqual([`made ${DRAFT}`, "discarded", `emptied for ${2 ** 40}`]);
  });
});

it("a host without drafts makes the file itself", async () => {
  const { files: plain } = new VirtualHost();
  expect(await replaceFile(plain, "/a", (name) => Promise.resolve(name))).toBe("/a");
});
