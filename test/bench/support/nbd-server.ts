/** NBD servers, ours and QEMU's, and fio's requests to them. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { connect } from "node:net";

/** A server that runs. */
export interface Server {
  readonly pid: number;
  readonly url: string;
  end(): Promise<void>;
}

/** Whether a server listens on a socket. */
export async function answers(socket: string): Promise<boolean> {
  const client = connect(socket);
  return new Promise((resolve) => {
    client.once("data", () => {
      client.destroy();
      resolve(true);
    });
    client.once("error", () => resolve(false));
  });
}

/** Serves a raw image on a socket; resolves when it answers. */
export async function serve(server: readonly string[], image: string, socket: string): Promise<Server> {
  const [executable = "", ...words] = server;
  const args = [...words, "-f", "raw", "-t", "-e", "32", "-k", socket, image];
  const child: ChildProcess = spawn(executable, args, { stdio: "ignore" });
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  while (!(existsSync(socket) && (await answers(socket)))) {
    if (child.exitCode !== null) throw new Error(`${args.join(" ")} ended`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return {
    pid: child.pid ?? 0,
    url: `nbd+unix:///?socket=${socket}`,
    end: () => {
      child.kill("SIGTERM");
      return gone;
    },
  };
}

/** What fio asks for. */
export interface Load {
  readonly rw: "randread" | "randwrite";
  readonly depth: number;
  readonly clients?: number;
  readonly bytes?: string;
  readonly mebibytes: number;
  readonly seconds: number;
  /** Requests a second at most. */
  readonly ratePerSecond?: number;
}

/** What fio finds: requests a second, and how long one takes on average, at the median and at the 99th percentile, µs. */
export interface Found {
  readonly iops: number;
  readonly latency: number;
  readonly p50: number;
  readonly p99: number;
}

interface Side {
  readonly iops: number;
  readonly clat_ns: { readonly mean: number; readonly percentile?: Readonly<Record<string, number>> };
}

/** Runs fio's nbd engine. */
export function fio(url: string, load: Load): Found {
  const { rw, depth, clients = 1, bytes = "4k", mebibytes, seconds, ratePerSecond } = load;
  const words = ["--name=bench", "--ioengine=nbd", `--uri=${url}`, `--rw=${rw}`, `--bs=${bytes}`, "--thread"];
  const more = [`--iodepth=${depth}`, `--numjobs=${clients}`, "--group_reporting", "--output-format=json"];
  const span = ["--time_based", `--runtime=${seconds}`, `--size=${mebibytes}m`];
  const rate = ratePerSecond === undefined ? [] : [`--rate_iops=${ratePerSecond}`];
  const text = execFileSync("fio", [...words, ...more, ...span, ...rate], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });
  const { jobs } = JSON.parse(text.slice(text.indexOf("{"))) as { jobs: { read: Side; write: Side }[] };
  const side = jobs[0]![rw === "randread" ? "read" : "write"];
  const { mean, percentile = {} } = side.clat_ns;
  const at = (part: string): number => (percentile[part] ?? 0) / 1000;
  return { iops: side.iops, latency: mean / 1000, p50: at("50.000000"), p99: at("99.000000") };
}
