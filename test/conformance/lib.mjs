// Building blocks for scenarios: images, block nodes and QMP commands.
export const MiB = 1 << 20;

export const file = (name, filename) => ({ driver: "file", "node-name": name, filename });
export const raw = (name, child) => ({ driver: "raw", "node-name": name, file: child });
export const qcow2 = (name, child, backing) => ({
  driver: "qcow2",
  "node-name": name,
  file: child,
  ...(backing ? { backing } : {}),
});
/** blkdebug over `child`; `rules` are inject-error entries. */
export const blkdebug = (name, child, rules) => ({
  driver: "blkdebug",
  "node-name": name,
  image: child,
  "inject-error": rules,
});

export const EIO = 5;
export const ENOSPC = 28;

export const cmd = (execute, args) => ({ do: args ? { execute, arguments: args } : { execute } });
export const until = (event, data) => ({ until: data ? { event, data } : { event } });
export const jobs = cmd("query-block-jobs");
/** Wait until the job list holds one job with these fields. */
export const pollJob = (fields) => ({ poll: { execute: "query-block-jobs" }, until: { return: [fields] } });
export const pollJobs = (...list) => ({ poll: { execute: "query-jobs" }, until: { return: list } });
export const jobGone = { poll: { execute: "query-block-jobs" }, until: { return: { length: 0 } } };
export const status = (id, s) => until("JOB_STATUS_CHANGE", { id, status: s });

/** base.raw (all 0x11) <- mid.qcow2 (0x22 in its second quarter) <- top.qcow2 (0x33 in its last 64 KiB). */
export const chainImages = [
  { file: "base.raw", format: "raw", writes: ["write -P 17 0 1M"] },
  { file: "mid.qcow2", backing: "base.raw", backingFormat: "raw", writes: ["write -P 34 256k 256k"] },
  { file: "top.qcow2", backing: "mid.qcow2", writes: ["write -P 51 960k 64k"] },
];
/** The chain as nodes base, mid, top; `wrap` puts blkdebug rules below a node: { base: rules }. */
export function chain(wrap = {}) {
  const nodes = [];
  const proto = (n, filename) => {
    nodes.push(file(`${n}-file`, filename));
    if (!wrap[n]) return `${n}-file`;
    nodes.push(blkdebug(`${n}-debug`, `${n}-file`, wrap[n]));
    return `${n}-debug`;
  };
  nodes.push(raw("base", proto("base", "base.raw")));
  nodes.push(qcow2("mid", proto("mid", "mid.qcow2"), "base"));
  nodes.push(qcow2("top", proto("top", "top.qcow2"), "mid"));
  return nodes;
}
