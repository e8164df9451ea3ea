// Each job x each error policy x each error x each side: what the job does when a
// request fails once, or always, and what it publishes on the way.
import {
  blkdebug,
  chain,
  chainImages,
  cmd,
  EIO,
  ENOSPC,
  file,
  jobs,
  pollJob,
  raw,
  status,
  until,
} from "../lib.mjs";

const policies = ["report", "ignore", "stop", "enospc", "auto"];
const errors = { EIO, ENOSPC };
const sourceTarget = [
  { file: "src.raw", format: "raw", writes: ["write -P 17 0 1M"] },
  { file: "dst.raw", format: "raw" },
];
const sector = 512; // the request at 256 KiB
const readFails = (errno, once, at = sector) => [{ event: "none", iotype: "read", errno, sector: at, once }];
const writeFails = (errno, once) => [{ event: "none", iotype: "write", errno, sector, once }];
const stops = (policy, errno) =>
  policy === "stop" || ((policy === "enospc" || policy === "auto") && errno === ENOSPC);

// What follows a start: a stopped job is looked at, resumed, and looked at again.
const follow = (policy, errno, extra = []) =>
  stops(policy, errno)
    ? [
        until("BLOCK_JOB_ERROR", { action: "stop" }),
        pollJob({ paused: true, busy: false }),
        cmd("block-job-resume", { device: "job0" }),
        ...extra,
      ]
    : extra;

const out = [];
for (const policy of policies)
  for (const [name, errno] of Object.entries(errors)) {
    out.push({
      name: `stream-read-${name}-${policy}`,
      images: chainImages,
      blockdevs: chain({ base: readFails(errno, true, 1200) }), // 600 KiB: only base holds it
      steps: [
        cmd("block-stream", { "job-id": "job0", device: "top", "on-error": policy }),
        ...follow(policy, errno),
        status("job0", "null"),
        jobs,
      ],
      check: [{ file: "top.qcow2" }, { file: "mid.qcow2" }],
    });
    out.push({
      name: `stream-write-${name}-${policy}`,
      images: chainImages,
      blockdevs: chain({ top: [{ event: "write_aio", errno, once: true }] }),
      steps: [
        cmd("block-stream", { "job-id": "job0", device: "top", "on-error": policy }),
        ...follow(policy, errno),
        status("job0", "null"),
        jobs,
      ],
      check: [{ file: "top.qcow2" }],
    });
    out.push({
      name: `commit-read-${name}-${policy}`,
      images: chainImages,
      blockdevs: chain({ mid: [{ event: "read_aio", errno, once: true }] }),
      steps: [
        cmd("block-commit", {
          "job-id": "job0",
          device: "top",
          "top-node": "mid",
          "base-node": "base",
          "on-error": policy,
        }),
        ...follow(policy, errno),
        status("job0", "null"),
        jobs,
      ],
      check: [{ file: "top.qcow2" }, { file: "base.raw", format: "raw" }],
    });
    out.push({
      name: `commit-write-${name}-${policy}`,
      images: chainImages,
      blockdevs: chain({ base: writeFails(errno, true) }),
      steps: [
        cmd("block-commit", {
          "job-id": "job0",
          device: "top",
          "top-node": "mid",
          "base-node": "base",
          "on-error": policy,
        }),
        ...follow(policy, errno),
        status("job0", "null"),
        jobs,
      ],
      check: [{ file: "top.qcow2" }, { file: "base.raw", format: "raw" }],
    });
    for (const side of ["source", "target"])
      for (const job of ["mirror", "backup"]) {
        const debug =
          side === "source"
            ? [
                file("src-file", "src.raw"),
                blkdebug("src-debug", "src-file", readFails(errno, true)),
                raw("src", "src-debug"),
                file("dst-file", "dst.raw"),
                raw("dst", "dst-file"),
              ]
            : [
                file("src-file", "src.raw"),
                raw("src", "src-file"),
                file("dst-file", "dst.raw"),
                blkdebug("dst-debug", "dst-file", writeFails(errno, true)),
                raw("dst", "dst-debug"),
              ];
        const finish =
          job === "mirror" ? [until("BLOCK_JOB_READY"), cmd("block-job-complete", { device: "job0" })] : [];
        const action =
          policy === "report" || ((policy === "enospc" || policy === "auto") && errno !== ENOSPC)
            ? "report"
            : "";
        out.push({
          name: `${job}-${side}-${name}-${policy}`,
          images: sourceTarget,
          blockdevs: debug,
          steps: [
            cmd(`blockdev-${job}`, {
              "job-id": "job0",
              device: "src",
              target: "dst",
              sync: "full",
              [`on-${side}-error`]: policy,
            }),
            ...follow(policy, errno),
            ...(action === "report" ? [] : finish),
            status("job0", "null"),
            jobs,
          ],
          check:
            action === "report"
              ? [{ file: "dst.raw", format: "raw", contents: false }]
              : [{ file: "dst.raw", format: "raw" }],
        });
      }
  }
export default out;
