/**
 * The open gate: asked before any file that an image names (backing file, data file) is opened. The library's default
 * denies everything; entries choose another policy. Source: design rule "never guess for an authority decision".
 */
import { CommandError } from "../../base/errors.ts";
import type { FileInfo, Host } from "../../base/host.ts";
import type { NodeSpec } from "./spec.ts";

/** What an image asks to have opened. */
export interface GateRequest {
  kind: "backing" | "data-file";
  /** The file that holds the name, as it was opened; empty if it has none. */
  image: string;
  /** The name as the image spells it. */
  name: string;
  /** The format that the image names, if it does. */
  format: string | undefined;
  /** What the file will be opened for. A data file of a writable image is written to; a backing file is only read. */
  access: "read" | "write";
}

/**
 * The spec to open, or why not. `identity`: the file that the gate looked at (FileInfo.identity); what is then opened under
 * that name must be it, or the opening is refused.
 */
export type GateAnswer = { allow: NodeSpec; identity?: string } | { refuse: string };

/** Decides on one request. */
export type Gate = (request: GateRequest) => Promise<GateAnswer>;

/** Policies that entries offer by name. */
export const gatePolicies = ["deny", "same-dir", "local", "all"] as const;

/** The name of a policy. */
export type GatePolicy = (typeof gatePolicies)[number];

/** Refuses everything. */
export const denyGate: Gate = (request) =>
  Promise.resolve({
    refuse: `the image's ${request.kind} name '${request.name}' was not opened: no gate allows it`,
  });

/** What no header may name, whatever lies there: the kernel's own files, and devices. */
const systemFolders = /^\/(?:proc|sys|dev)(?:\/|$)/;
/** Memory that users keep files in; an image that lies there names its neighbours. */
const sharedMemory = /^\/dev\/shm\//;

/**
 * The gate of a policy over local files. `local`: backing files are regular files named by a path, and never lie in /proc,
 * /sys or /dev (but in /dev/shm, where the image does too); a data file, and whatever is opened for writing, lies beside the image and is no symbolic link. `same-dir`:
 * that holds for backing files, too. `all`: any file, also devices. Names with a protocol (`json:`, `nbd:` …: a colon before
 * the first slash, as QEMU reads them) are refused by all, save a backing file behind blkdebug: it adds faults to a file that is
 * read, and nothing else, so the file and the rules beside it pass as backing files do; null-co and null-aio, which open
 * nothing; and, of a backing file, `file:` before an absolute path, which is that path.
 */
export function fileGate(policy: GatePolicy, host: Host): Gate {
  if (policy === "deny") return denyGate;
  return async (request) => {
    const refuse = (why: string): GateAnswer => ({
      refuse: `${request.kind} name '${request.name}' refused: ${why}`,
    });
    if (request.name.includes("\0")) return refuse("it holds a NUL byte");
    const faulty = request.kind === "backing" ? readFaulty(request.name) : undefined;
    if (faulty) return throughBlkdebug(fileGate(policy, host), request, faulty);
    if (request.kind === "backing" && emptyDisks.has(request.name)) return { allow: emptyDisk(request) };
    const path = request.kind === "backing" ? pathOf(request.name) : request.name;
    if (hasProtocol(path)) return refuse("names with a protocol are not opened out of an image's header");
    const filename = host.files.resolve(request.image, path);
    const file: NodeSpec = { driver: "file", filename };
    const allow: NodeSpec = { driver: request.format ?? "", file };
    if (policy === "all") return { allow };
    const info = await host.files.info(filename, { link: true }).catch(() => undefined);
    const beside = policy === "same-dir" || request.kind === "data-file" || request.access === "write";
    const why = await (beside ? whyNotBeside : whyNotLocal)(host, { ...request, filename, info });
    if (why !== undefined) return refuse(why);
    // A file that is not there is not there: opening it says so.
    return info ? { allow, identity: info.identity } : { allow };
  };
}

/** What a name says as a path: `file:` before an absolute one only says so. */
function pathOf(name: string): string {
  return name.startsWith("file:/") ? name.slice("file:".length) : name;
}

/** Names of disks that open nothing at all: they read as zeroes. */
const emptyDisks: ReadonlySet<string> = new Set(["null-co://", "null-aio://"]);

function emptyDisk({ name, format }: GateRequest): NodeSpec {
  return { driver: format ?? "", file: { driver: name.slice(0, name.indexOf(":")) } };
}

interface FaultyName {
  /** The file of its rules; empty: it has none. */
  readonly config: string;
  readonly image: string;
}

/** `blkdebug:CONFIG:FILE`, of paths. */
function readFaulty(name: string): FaultyName | undefined {
  const [, config, image] = /^blkdebug:([^:]*):([^:]+)$/.exec(name) ?? [];
  return image === undefined ? undefined : { config: config!, image };
}

/** Both files are asked for as backing files; a path that is relative starts at the image's folder. */
async function throughBlkdebug(
  gate: Gate,
  request: GateRequest,
  { config, image }: FaultyName,
): Promise<GateAnswer> {
  const ask = (name: string): Promise<GateAnswer> => gate({ ...request, name });
  const file = await ask(image);
  if ("refuse" in file) return file;
  const rules = config === "" ? undefined : await ask(config);
  if (rules && "refuse" in rules) return rules;
  const below = (answer: { allow: NodeSpec }): NodeSpec => answer.allow["file"] as NodeSpec;
  const options = rules ? { config: below(rules)["filename"] } : {};
  const faults: NodeSpec = { driver: "blkdebug", ...options, image: below(file) };
  return { ...file, allow: { ...file.allow, file: faults } };
}

/** Whether a file name begins with a protocol (`http:`), so that it is no path. */
export function hasProtocol(name: string): boolean {
  return protocolPrefix(name) !== "";
}

/** The protocol that a file name begins with, its colon included; "" where it is a path. */
export function protocolPrefix(name: string): string {
  return /^[^/\\]*:/.exec(name)?.[0] ?? "";
}

type Named = GateRequest & { filename: string; info: FileInfo | undefined };

/** Why a file is none that a header may name for reading; undefined if it may. */
async function whyNotLocal({ files }: Host, named: Named): Promise<string | undefined> {
  const { filename, info, image } = named;
  if (info && info.kind !== "file") return "it is no regular file";
  const real = await files.realPath(filename).catch(() => filename);
  if (!systemFolders.test(real)) return undefined;
  const own = sharedMemory.test(real) ? await files.realPath(image).catch(() => image) : "";
  return sharedMemory.test(own) ? undefined : "it lies in a folder of the system";
}

/** Why a file is none that lies beside the image as itself; undefined if it does. */
async function whyNotBeside(host: Host, named: Named): Promise<string | undefined> {
  const { files } = host;
  const { image, filename, info } = named;
  if (image === "") return "the image has no file name, and so no directory";
  if (info?.symlink) return "it is a symbolic link";
  const folder = (file: string): Promise<string> => files.realPath(files.resolve(file, "."));
  const [own, its] = await Promise.all([folder(image), folder(filename).catch(() => "")]);
  return own === its ? whyNotLocal(host, named) : "it leaves the image's directory";
}

/**
 * Lets images name backing files on web servers of these origins (`https://host:port`), and asks `otherwise` about every
 * name that is no URL of http or https.
 */
export function urlGate(origins: readonly string[], otherwise: Gate = denyGate): Gate {
  const isList: boolean = Array.isArray(origins);
  if (!isList) throw new CommandError("Invalid parameter type for 'origins', expected: array");
  const allowed = new Set(origins.map((origin) => new URL(origin).origin));
  return async (request) => {
    if (!/^https?:/i.test(request.name)) return otherwise(request);
    const refuse = (why: string): GateAnswer => ({
      refuse: `${request.kind} name '${request.name}' refused: ${why}`,
    });
    if (!URL.canParse(request.name)) return refuse("it is no URL");
    const url = new URL(request.name);
    if (request.kind !== "backing") return refuse("only backing files may lie on a web server");
    if (!allowed.has(url.origin)) return refuse(`its origin ${url.origin} is not allowed`);
    const file: NodeSpec = { driver: url.protocol === "https:" ? "https" : "http", url: url.href };
    return { allow: { driver: request.format ?? "", file } };
  };
}
