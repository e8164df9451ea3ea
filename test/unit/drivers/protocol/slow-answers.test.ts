// Answers of stores and registries whose bodies take their time, in virtual time: only silence is a failure, however long a layer or a chunk
// is on its way.
import { describe, expect, it } from "vitest";
import type { Host, HostHttp, HttpResponse } from "../../../../src/base/host.ts";
import { ociOptions } from "../../../../src/drivers/protocol/http/oci/options.ts";
import { bodyBytes, Registry } from "../../../../src/drivers/protocol/http/oci/registry.ts";
import { Store } from "../../../../src/drivers/protocol/http/s3/client.ts";
import { collected } from "../../../../src/drivers/protocol/http/s3/heads.ts";
import { s3Options } from "../../../../src/drivers/protocol/http/s3/options.ts";
import { VirtualHost } from "../../support/virtual-host.ts";

const PIECES = 20;

/** A host whose every answer comes in pieces, so many ms one after the other. */
function slowly(everyMs: number): { host: VirtualHost; all: Host; asked: () => number } {
  const host = new VirtualHost();
  let asked = 0;
  const answer = (signal: AbortSignal): Promise<HttpResponse> => {
    asked += 1;
    let piece = 0;
    let controlled: ReadableStreamDefaultController<Uint8Array> | undefined;
    signal.addEventListener("abort", () => controlled?.error(signal.reason));
    const pull = (controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> =>
      new Promise((resolve) => {
        controlled = controller;
        if (piece++ === PIECES) return resolve(controller.close());
        host.clock.timer(everyMs, () => {
          if (!signal.aborted) controller.enqueue(Uint8Array.of(piece));
          resolve();
        });
      });
    const body = new ReadableStream({ pull }, { highWaterMark: 0 });
    return Promise.resolve({ status: 200, headers: { get: () => null }, body });
  };
  const http: HostHttp = {
    sendsCookies: true,
    get: (_url, { signal }) => answer(signal),
    send: (_url, { signal }) => answer(signal),
  };
  return { host, all: Object.assign(Object.create(host) as Host, { http }), asked: () => asked };
}

const readers: Readonly<Record<string, (host: Host) => Promise<number>>> = {
  "a store": async (host) => {
    const graph = { host, secrets: {} } as unknown as Parameters<typeof s3Options>[1];
    const options = s3Options({ driver: "s3", url: "s3://b/k", endpoint: "http://s.test" }, graph);
    const store = new Store(host, options);
    const request = { method: "GET", place: options.place } as const;
    return (await store.request(request, ({ body }) => collected(body, 1000))).byteLength;
  },
  "a registry": async (host) => {
    const graph = { secrets: {} } as unknown as Parameters<typeof ociOptions>[1];
    const registry = new Registry(host, ociOptions({ driver: "oci", url: "oci://r.test/a" }, graph));
    const request = { method: "GET", path: "blobs/x" } as const;
    return (await registry.request(request, (response) => bodyBytes(response, 1000))).byteLength;
  },
};

describe.each(Object.keys(readers))("%s", (name) => {
  it("may take longer than any time for an answer, as long as something comes", async () => {
    const { host, all, asked } = slowly(14_000);
    expect(await host.clock.settle(readers[name]!(all))).toBe(PIECES);
    expect(asked()).toBe(1);
  });

  it("that falls silent is given up", async () => {
    const { host, all } = slowly(16_000);
    await expect(host.clock.settle(readers[name]!(all))).rejects.toMatchObject({
      code: "EIO",
      message: expect.stringContaining("timed out") as string,
    });
  });
});
