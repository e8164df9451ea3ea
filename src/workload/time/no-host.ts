/**
 * A Host of nothing: no files, no web, no codecs, and a clock that stands still. What a run in virtual time is given by those who
 * bring no platform of their own.
 */
import { BlockError } from "../../base/errors.ts";
import type { Host, HostFiles } from "../../base/host.ts";

function nothing(): Promise<never> {
  return Promise.reject(new BlockError({ code: "ENOENT", op: "open", message: "There are no files here" }));
}

const files: HostFiles = {
  open: nothing,
  create: nothing,
  info: nothing,
  realPath: nothing,
  remove: nothing,
  resolve: (_base, path) => path,
};

/** The host. */
export const noHost: Host = {
  clock: {
    nowMs: () => 0,
    wallMicroseconds: () => 0,
    timer: () => () => undefined,
    turn: () => Promise.resolve(),
  },
  random: { below: () => 0 },
  files,
  codecs: {
    inflateRaw: () => Promise.reject(new BlockError({ code: "ENOTSUP", op: "inflate" })),
    deflateRaw: () => Promise.resolve(undefined),
  },
};
