// What the program's verbs are to do with disks in an object store, whoever's it is.
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { Buffer } from "node:buffer";
import { afterAll, beforeAll, expect, it } from "vitest";
import { contentOf } from "../../support/content.ts";
import type { ObjectServer } from "./s3.ts";

const MiB = 2 ** 20;

type At = () => ObjectServer;

function reading(at: At): void {
  it("convert makes one object that any client downloads, and leaves nothing beside it", async () => {
    await at().fine("convert", "-f", "raw", "-O", "raw", "source.raw", at().name("a%20disk+1.raw"));
    expect(
      (await at().download("a%20disk%2B1.raw")).equals(readFileSync(at().scratch.at("source.raw"))),
    ).toBe(true);
    await at().fine("convert", "-f", "raw", "-O", "qcow2", "source.raw", at().name("image.qcow2"));
    writeFileSync(at().scratch.at("image.qcow2"), await at().download("image.qcow2"));
    expect(await at().fine("compare", "-f", "raw", "-F", "qcow2", "source.raw", "image.qcow2")).toBe(
      "Images are identical.\n",
    );
    expect(await at().keys()).toEqual(["a disk+1.raw", "image.qcow2"]);
  });

  it("every verb reads it", async () => {
    const image = at().name("image.qcow2");
    expect(await at().fine("compare", "-f", "raw", "source.raw", image)).toBe("Images are identical.\n");
    expect(JSON.parse(await at().fine("info", "--output=json", image))).toMatchObject({
      ...{ filename: image, format: "qcow2", "virtual-size": 40 * MiB },
    });
    const extents = JSON.parse(await at().fine("map", "--output=json", image)) as {
      data: boolean;
      length: number;
    }[];
    expect(extents.reduce((sum, { data, length }) => sum + (data ? length : 0), 0)).toBe(19 * MiB);
    expect(await at().fine("check", image)).toContain("No errors were found on the image.");
    await at().fine("convert", "-O", "raw", image, "back.raw");
    expect(
      readFileSync(at().scratch.at("back.raw")).equals(readFileSync(at().scratch.at("source.raw"))),
    ).toBe(true);
  });
}

function writing(at: At): void {
  it("create, io, mirror and backup make disks that are written in place", async () => {
    await at().fine("create", "-q", "-f", "qcow2", at().name("live.qcow2"), "1G");
    await at().fine("io", "-f", "qcow2", "-c", "write -P 7 100M 3M", at().name("live.qcow2"));
    expect(
      await at().fine("io", "-r", "-f", "qcow2", "-c", "read -P 7 100M 3M", at().name("live.qcow2")),
    ).toContain("3 MiB");
    for (const verb of ["mirror", "backup"]) {
      await at().fine(verb, "-f", "raw", "-F", "qcow2", "source.raw", at().name(`${verb}.qcow2`));
      expect(await at().fine("compare", "-f", "raw", "source.raw", at().name(`${verb}.qcow2`))).toBe(
        "Images are identical.\n",
      );
      const again = await at().say([
        verb,
        "-f",
        "raw",
        "-F",
        "qcow2",
        "source.raw",
        at().name(`${verb}.qcow2`),
      ]);
      expect(again.status).toBe(1);
      expect(again.stderr).toContain("exists; --force writes over it");
    }
  });
}

function refusing(at: At): void {
  it("tells refusals in a line, and never the secret", async () => {
    const missing = await at().say(["info", at().name("nothing")]);
    expect(missing).toMatchObject({ status: 1, stdout: "" });
    expect(missing.stderr).toContain("Could not open 's3://disks/nothing");
    expect(missing.stderr).toContain("No such file or directory");
    const wrong = await at().say(["info", at().name("image.qcow2")], {
      AWS_SECRET_ACCESS_KEY: "wrongSecretKey",
    });
    expect(wrong.status).toBe(1);
    expect(wrong.stderr).toContain("HTTP status 403");
    expect(wrong.stderr).not.toContain("wrongSecretKey");
    const half = await at().say([
      "convert",
      "-f",
      "raw",
      "source.raw",
      "s3://nobucket/x?conditional-writes=off",
    ]);
    expect(half.status).toBe(1);
  });

  it("secrets are objects, and options go by name and by description", async () => {
    const { accessKeyId, secretAccessKey } = at().access;
    writeFileSync(at().scratch.at("key"), secretAccessKey);
    const place = { driver: "s3", bucket: "disks", key: "image.qcow2" };
    const spec = { ...place, endpoint: at().endpoint, "access-key-id": accessKeyId };
    const image = `json:${JSON.stringify({ driver: "qcow2", file: { ...spec, "secret-access-key": "k" } })}`;
    const told = await at().say(["info", "--object", "secret,id=k,file=key", image], {
      ...{ AWS_ENDPOINT_URL: "", AWS_ACCESS_KEY_ID: "", AWS_SECRET_ACCESS_KEY: "" },
    });
    expect(told.stderr).toBe("");
    expect(told.stdout).toContain("virtual size: 40 MiB");
    const named = await at().say(
      ["info", `s3://disks/image.qcow2?endpoint=${encodeURIComponent(at().endpoint)}`],
      {
        AWS_ENDPOINT_URL: "http://127.0.0.1:9",
      },
    );
    expect(named.stdout).toContain("virtual size: 40 MiB");
    rmSync(at().scratch.at("key"));
  });
}

/** Tests of the verbs beside a store. */
export function verbsBeside(start: () => Promise<ObjectServer>): void {
  let server: ObjectServer;

  beforeAll(async () => {
    server = await start();
    const source = Buffer.alloc(40 * MiB);
    source.set(contentOf(18 * MiB), 0);
    source.set(contentOf(MiB, 3), 33 * MiB);
    writeFileSync(server.scratch.at("source.raw"), source);
  });

  afterAll(() => server.stop());

  reading(() => server);
  writing(() => server);
  refusing(() => server);
}
