// What an editor shows beside the options of drivers and the arguments of QMP commands: a sentence for each member of the QAPI
// table, by `Type.member` or `command.member` where the name alone does not say it, else by the member's name. They go into the
// declarations (.ci/hover.mjs) and into nothing that runs.

/** @type {Readonly<Record<string, string>>} */
const hoverTexts = {
  // Every node.
  driver: "Which driver: what the node is.",
  "node-name": "The node's name, at most 31 characters; default: one is made (`#block…`).",
  "read-only": "Refuses writes (EPERM). Children inherit it; backing files are read-only anyway.",
  "auto-read-only": "Opens for reading only where writing is not allowed, instead of failing.",
  "force-share": "Lets others write meanwhile; only for nodes that are read-only.",
  discard: "`unmap`: discards free storage; `ignore` (default): they do nothing.",
  "detect-zeroes":
    '`on`: written zeroes take no data; `unmap`: they free storage, too (wants `discard: "unmap"`).',
  cache: "How the host caches the file. Children inherit it.",
  direct: "Past the host's cache (O_DIRECT).",
  "no-flush": "Flushes are not passed on: a power cut may lose the image.",
  file: 'The storage below: the name of an open node, or a description of its own. A file is `file("x")`.',
  backing:
    "The disk below: a node's name, a description, or null for none. Default: what the header says, if the gate allows it.",

  // NBD's client, sockets, TLS.
  server: "Where the server is.",
  "SocketAddress.type": "TCP, a Unix socket, or what this platform refuses.",
  "NbdServerAddress.type": "TCP, a Unix socket, a WebSocket, or what this platform refuses.",
  "WebSocketAddress.url": "`ws:` or `wss:`, with the token if the server wants one.",
  host: "Name or address of the host.",
  port: "Number of the port, as text.",
  "UnixSocketAddress.path": "Path of the Unix socket.",
  numeric: "Accepted, without effect.",
  to: "Accepted, without effect.",
  ipv4: "Accepted, without effect.",
  ipv6: "Accepted, without effect.",
  "keep-alive": "Accepted, without effect.",
  mptcp: "Accepted, without effect.",
  abstract: "A name without a file (Linux): servers only.",
  tight: "Accepted, without effect.",
  cid: "Refused: there are no such sockets here.",
  str: "Number of a descriptor that was handed over: servers only.",
  export: "The export's name; default: the one without.",
  "tls-creds": "Id of the object with the client's TLS credentials.",
  "tls-hostname": "The name that the server's certificate must be for; default: the host.",
  "x-dirty-bitmap": "The metadata context that block status tells of, in place of `base:allocation`.",
  "reconnect-delay": "Seconds that requests wait for a lost link, and are sent again; default 0: they fail.",
  "open-timeout": "Seconds for which opening tries again; default 0.",
  tls: "TLS, the server being checked by the platform's own authorities.",
  "nbd-server-start.tls-creds":
    "Id of the object with the server's TLS credentials; clients must use TLS then.",
  "NbdServerOptions.tls-creds":
    "Id of the object with the server's TLS credentials; clients must use TLS then.",

  // Exports, NBD's server.
  addr: "Where the server listens.",
  "tls-authz": "Refused: there are no such objects.",
  "max-connections": "Clients at a time; 0: any number. Default 100.",
  description: "What people are told of the export.",
  writable: "Whether clients may write; default false.",
  writethrough: "Each write is durable before it is answered; default false.",
  "fixed-iothread": "Accepted, without effect.",
  iothread: "Id of an `iothread` object; without effect.",
  "allocation-depth": "Shows which layer holds the data (`qemu:allocation-depth`).",
  "BlockExportOptionsNbd.bitmaps":
    "Dirty bitmaps that are shown, by name or by node and name; they are busy meanwhile.",
  "logical-block-size": "Refused with its export.",
  "num-queues": "Refused with its export.",
  "queue-size": "Refused with its export.",
  serial: "Refused with its export.",
  mountpoint: "Refused with its export.",
  growable: "Refused with its export.",
  "allow-other": "Refused with its export.",

  "verify-peer": "Whether the peer's certificate must be good; default true.",
  dir: "The folder of the credentials, whose files have fixed names.",
  endpoint: "Whose credentials they are; default `client`.",
  priority: "Accepted, without effect.",
  "TlsCredsPskProperties.username": "The user whose key it is; default `qemu`.",
  "sanity-check": "Accepted, without effect.",
  passwordid: "Id of the secret that opens the key.",

  // Files and memory.
  filename: "A path of the host; names joined by slashes (opfs); any name (indexeddb).",
  locking:
    "Image locks as QEMU's: `on` wants them, `off` takes none, `auto` (default) takes them where the platform has some.",
  aio: "Accepted: one way of I/O serves all (`native` wants `cache.direct`).",
  "aio-max-batch": "Accepted, without effect.",
  "drop-cache": "Accepted, without effect.",
  "x-check-cache-dropped": "Accepted, without effect.",
  size: "Length, bytes.",
  "BlockdevOptionsHttp.size":
    "Length, bytes, if you know it: then nothing is asked of the server at opening.",
  "BlockdevOptionsRaw.size": "Length of the window, bytes, a multiple of 512; default: to the end.",
  "BlockdevOptionsNull.size": "Length, bytes; default 1 GiB.",
  "block_resize.size": "The new length, bytes; what lies beyond a smaller one is lost.",
  "latency-ns": "Nanoseconds that each request takes.",
  "read-zeroes": "Reads give zeroes; else they leave the buffer as it is.",
  durability:
    "`strict` (default): a write completes when it is durable; `interval`: it is durable after a flush or the interval.",
  "flush-interval": "Milliseconds between flushes under `interval`; default 1000.",

  // Web servers.
  url: "URL of the driver's own scheme, without user name and password; in a browser also relative to the page.",
  readahead: "Bytes asked for ahead of sequential reads; default 256 KiB.",
  timeout: "Seconds that a try may bring nothing; default 5.",
  deadline: "Seconds for a read with all its tries; default 15.",
  retries: "Tries after the first; default 3.",
  connections: "Requests at once, 1 … 16; default 4.",
  username: "User name of HTTP's basic authentication; sent to the disk's own origin only.",
  "password-secret": "Id of the secret that is the password.",
  cookie: "The header `Cookie`; in Node only.",
  "cookie-secret": "Id of the secret that is the header `Cookie`; in Node only.",
  etag: "The version that the disk must have; any other fails with ESTALE.",
  "if-match":
    "Whether a strong ETag is sent along; `auto` (default): not to other origins, where it costs a preflight.",
  credentials: "As in fetch: `omit` (default), `same-origin`, `include`.",
  "cluster-size": "Bytes of a cluster, a power of two.",
  "BlockdevOptionsHttp.cluster-size": "Bytes of a request, a power of two; default 64 KiB.",
  "cache-size": "Bytes of metadata (qcow2) or data (http: 8 MiB; 0: none) that are kept in memory.",
  parts: "The disk lies in files of so many bytes, as v86's split-image.py makes them; needs `size`.",
  "chunk-size": "Bytes of each part.",
  manifest: "URL (in Node also a file's name) of the hashes that every cluster must match.",
  sslverify: "False does without the check of the server's certificate; in Node only. Default true.",

  // Formats.
  offset: "Where the window begins, bytes.",
  "lazy-refcounts": "The dirty bit is set while the image is written to; a crash then wants a check.",
  "pass-discard-request": "Discards of a guest are passed on to the file.",
  "pass-discard-snapshot": "Clusters that a removed snapshot frees are discarded in the file.",
  "discard-no-unref": "What is discarded keeps its cluster for the next write to it, as in QEMU since 8.1.",
  "pass-discard-other": "All other clusters that become free are discarded in the file.",
  "overlap-check":
    "Which metadata no write may land on: `none`, `constant`, `cached` (default), `all`, or a flag for each.",
  template: "The mode that the flags change.",
  "main-header": "Checks writes against the header.",
  "active-l1": "Checks writes against the active L1 table.",
  "active-l2": "Checks writes against the active L2 tables.",
  "refcount-table": "Checks writes against the refcount table.",
  "refcount-block": "Checks writes against the refcount blocks.",
  "snapshot-table": "Checks writes against the snapshot table.",
  "inactive-l1": "Checks writes against the L1 tables of snapshots.",
  "inactive-l2": "Checks writes against the L2 tables of snapshots.",
  "bitmap-directory": "Checks writes against the directory of bitmaps.",
  "l2-cache-size": "Bytes of L2 tables kept in memory; at most 32 MiB by default.",
  "l2-cache-entry-size": "Bytes of a piece of that cache, a power of two.",
  "refcount-cache-size": "Bytes of refcount blocks kept in memory.",
  "cache-clean-interval": "Accepted, without effect.",
  encrypt: "The encryption: `format`, and `key-secret`, the id of the secret with the passphrase.",
  "changed-backing":
    "What to do where the backing file is another version: `refuse` (default, ESTALE) or `accept`.",
  "bitmap-journal":
    "Dirty bitmaps survive a crash: what is written to is noted in the image first. Default true.",
  "data-file": "The file that holds the guest's data: a node's name or a description.",
  "detached-header": "The file takes a header alone; the data will be elsewhere.",
  header: "Where the LUKS header lies, if not before the data, as in QEMU since 9.0.",
  "key-secret": "Id of the secret that is the passphrase.",

  // Filters.
  image: "The node below: a name or a description.",
  config: "A file with rules.",
  align: "Alignment of requests, bytes.",
  "max-transfer": "Largest request, bytes.",
  "opt-write-zero": "Best size of zeroing, bytes.",
  "max-write-zero": "Largest zeroing, bytes.",
  "opt-discard": "Best size of a discard, bytes.",
  "max-discard": "Largest discard, bytes.",
  "inject-error": "Errors to give back.",
  "set-state": "Changes of the state by events.",
  event: "The event that the rule is about.",
  state: "The state in which the rule counts; default: every state.",
  "QCryptoBlockAmendOptionsLUKS.state": "`active` sets a keyslot, `inactive` erases it.",
  iotype: "The kind of request that fails; default: reads, writes, zeroing, discards and flushes.",
  errno: "Number of the error; default 5 (EIO).",
  sector: "The sector (512 bytes) that fails; default: every one.",
  once: "The rule counts once.",
  immediately: "Fails before the request is carried out.",
  new_state: "The state after the event.",
  "take-child-perms": "Permissions that are taken on the child.",
  test: "The image that is tested.",
  raw: "A plain copy of its disk.",
  children: "The copies, 1 to 32: names of open nodes, or descriptions. All are of one length.",
  "prealloc-size": "Bytes that are reserved at once beyond a write; default 128 MiB.",
  "prealloc-align": "Bytes: what is reserved ends at a multiple of it; default 1 MiB.",
  log: "Where the log of writes lies: a name or a description.",
  "log-sector-size": "Bytes of the log's sectors, a power of two; default 512.",
  "log-append": "Goes on with the log that is there; default false.",
  "log-super-update-interval":
    "So many entries come between two counts of them in the log's head; default 4096.",
  "vote-threshold": "So many copies must carry a request out and, for a read, agree.",
  "rewrite-corrupted": "Makes copies that were outvoted what the others are; default false.",
  "read-pattern":
    "`quorum` (default): reads all copies and lets them vote; `fifo`: the first that can be read.",
  "BlockdevOptionsQuorum.blkverify":
    "Two copies that differ fail the read with EIO and the place; default false.",
  "unshare-child-perms": "Permissions that others may not have on the child.",
  "throttle-group": "Name of the throttle-group object with the limits.",
  bottom: "The lowest node that is copied from.",
  "block-stream.bottom": "The lowest node to be streamed; its backing file stays.",
  target: "The node that is copied to; with drive-backup and drive-mirror a file's name.",
  "on-cbw-error":
    "When the copy fails: the guest's write fails (`break-guest-write`, default) or the snapshot (`break-snapshot`).",
  "min-cluster-size":
    "Bytes, a power of two, that a copy has at least; 0 (default): as the target's clusters.",
  "cbw-timeout": "Seconds that a copy may take; 0 (default): any time.",

  // Making and amending images.
  preallocation: "What is allocated at once: `off` (default), `metadata`, `falloc`, `full`.",
  nocow: "Accepted, without effect.",
  "extent-size-hint": "Accepted, without effect.",
  version: "`v3` (default) or `v2`.",
  "backing-file": "Name of the backing file for the header.",
  "backing-fmt": "Format of the backing file; without it that is guessed at every opening.",
  "refcount-bits": "Bits of a refcount: 1, 2, 4, 8, 16 (default), 32, 64.",
  "compression-type": "`zlib` (default) or `zstd`.",
  "data-file-raw": "The data file is a raw disk by itself.",
  "extended-l2": "Subclusters: small writes allocate a 32nd of a cluster.",
  "cipher-alg": "Cipher; default aes-256.",
  "cipher-mode": "Mode of the cipher; default xts.",
  "ivgen-alg": "How initialization vectors are made; default plain64.",
  "ivgen-hash-alg": "Hash of essiv.",
  "hash-alg": "Hash of the key derivation; default sha256.",
  "iter-time": "Milliseconds that deriving a key shall take; default 2000.",
  "new-secret": "Id of the secret that is the new passphrase.",
  "old-secret": "Id of the secret whose keyslots are meant.",
  keyslot: "Number of a keyslot.",
  secret: "Id of the secret by which the image is unlocked.",

  // Jobs.
  device: "The node's or the device's name.",
  "job-id": "The job's id; default: the device's name.",
  speed: "Bytes per second; 0: no limit.",
  sync: "What is copied: `full`: everything; `top`: the topmost image; `none`: what is written from now on; or what a bitmap says.",
  bitmap: "The dirty bitmap that says what to copy.",
  "bitmap-mode": "Whether the bitmap is cleared: `on-success`, `never`, `always`.",
  compress: "Stores compressed clusters.",
  "on-error": "On an I/O error: `report` (default), `ignore`, `stop`, `enospc`, `auto`.",
  "on-source-error": "On a failed read: `report` (default), `ignore`, `stop`, `enospc`, `auto`.",
  "on-target-error": "On a failed write: `report` (default), `ignore`, `stop`, `enospc`, `auto`.",
  "auto-finalize": "False: the job waits in `pending` for job-finalize. Default true.",
  "auto-dismiss": "False: the job stays `concluded` until job-dismiss. Default true.",
  "filter-node-name": "Name of the job's filter node.",
  "x-perf": "How much is copied at once.",
  "use-copy-range": "Accepted, without effect.",
  "max-workers": "Copies at once; default 64.",
  "max-chunk": "Largest request, bytes; 0 (default): no limit.",
  format: "Format of the image.",
  mode: "`existing`: the image is there; `absolute-paths` (default): it is made.",
  replaces: "The node that is replaced at the end; default: the source.",
  granularity: "Bytes of a bit of the dirty bitmap, a power of two, 512 … 64 MiB.",
  "buf-size": "Most bytes in flight; default 16 MiB.",
  unmap: "Zeroes of the source free storage of the target.",
  "copy-mode": "`write-blocking` copies writes as they happen; `background` (default) later.",
  base: "File name of the image that stays below.",
  "base-node": "Node of the image that stays below.",
  top: "File name of the topmost image to be committed.",
  "top-node": "Node of the topmost image to be committed.",
  force: "Ends the job at once; else a ready job finishes its copy.",
  "x-blockdev-amend.force": "Also does what may lose access to data.",
  "x-blockdev-change.child": "Name of the child that is taken away.",
  "x-blockdev-change.node": "Name of the node that is added.",
  "x-blockdev-change.parent": "Name of the node whose children change.",
  id: "The id.",

  // Nodes, snapshots, bitmaps.
  options: "The description.",
  "snapshot-file": "File name of the new overlay.",
  "snapshot-node-name": "Node name of the new overlay.",
  node: "The node's name.",
  overlay: "Name of the node that goes on top.",
  "image-node-name": "Name of the image whose header is changed.",
  name: "The name.",
  persistent: "Kept in the image.",
  disabled: "Does not record.",
  bitmaps: "Bitmaps whose bits are added.",
  "write-threshold": "Bytes beyond which a write is told by BLOCK_WRITE_THRESHOLD; 0: none.",
  "query-nodes": "Tells of nodes instead of devices.",
  flat: "Leaves the backing chain out.",
  actions: "What is done, all or none.",
  properties: "How it ends.",
  "completion-mode": "`individual` (default), or `grouped`: one failure cancels the other jobs.",
  type: "The kind of action.",
  enable: "Capabilities.",
  path: "Path of the object.",

  // Objects.
  "qom-type": "The kind of object.",
  data: "What it is about.",
  "SecretProperties.data": "The secret itself.",
  "SecretProperties.file": "File that holds the secret.",
  "SecretProperties.format": "`raw` (default) or `base64`.",
  loaded: "Accepted, without effect.",
  keyid: "Id of the secret that decrypts this one.",
  iv: "Initialization vector, base64.",
  limits: "The limits.",
  "thread-pool-min": "Accepted, without effect.",
  "thread-pool-max": "Accepted, without effect.",
  "poll-max-ns": "Accepted, without effect.",
  "poll-grow": "Accepted, without effect.",
  "poll-shrink": "Accepted, without effect.",
  "iops-size": "Bytes of a request that count as one operation.",
};

/** @type {Readonly<Record<string, string>>} */
const directions = { total: "of all requests", read: "of reads", write: "of writes" };

/**
 * The text for a member; limits of throttle groups are told by the parts of their names.
 *
 * @param {string} owner
 * @param {string} member
 * @returns {string | undefined}
 */
export function hoverText(owner, member) {
  const known =
    hoverTexts[`${owner}.${member}`] ?? hoverTexts[member] ?? hoverTexts[member.replace(/^x-/, "")];
  if (known !== undefined) return known;
  const limit = /^(?:x-)?(iops|bps)-(total|read|write)(-max)?(-length)?$/.exec(member);
  if (!limit) return undefined;
  const [, unit, direction = "", max, length] = limit;
  const what = `${unit === "bps" ? "Bytes" : "Operations"} a second ${directions[direction]}`;
  if (length !== undefined) return `Seconds that a burst ${directions[direction]} may last.`;
  return max === undefined ? `${what}; 0: no limit.` : `${what} in a burst.`;
}
