// Node's Host whose process is killed at a chosen change of a file: right before it is made, or while it is under way.
import type { Host, HostFile } from "../../../src/base/host.ts";
import { nodeHost } from "../../../src/platform/node/host.ts";

/** When the process dies. */
export interface Death {
  /** At the n-th write, flush, truncate or hole, counted from 1. */
  at: number;
  /** The change is handed to the system first (and may or may not be carried out). */
  issued: boolean;
}

const changing = new Set(["write", "flush", "truncate", "punchHole", "zeroRange"]);

/** The Host, and how many changes it has seen. */
export function killingHost(death: Death | undefined): { host: Host; changes: () => number } {
  const real = nodeHost();
  let count = 0;
  const die = (): void => void process.kill(process.pid, "SIGKILL");
  const wrap = (file: HostFile): HostFile =>
    new Proxy(file, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== "function") return value;
        const method = value as (...args: unknown[]) => unknown;
        if (!changing.has(String(name))) return method.bind(target);
        return (...args: unknown[]) => {
          count += 1;
          const dies = count === death?.at;
          if (dies && !death.issued) die();
          const result = method.apply(target, args);
          if (dies && death.issued) die();
          return result;
        };
      },
    });
  const { files } = real;
  const host: Host = {
    ...real,
    files: {
      open: async (path, options) => wrap(await files.open(path, options)),
      create: (path, options) => files.create(path, options),
      info: (path, how) => files.info(path, how),
      realPath: (path) => files.realPath(path),
      remove: (path, only) => files.remove(path, only),
      resolve: (base, path) => files.resolve(base, path),
    },
  };
  return { host, changes: () => count };
}
