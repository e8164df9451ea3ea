/**
 * The verb `job`: QMP commands on the jobs of another process, in words. Whatever the server refuses is told in its words, with
 * status 1. Source: QEMU's QMP schema (job.json, block-core.json); older servers without a command say so themselves.
 */
import { CommandError, messageOf } from "../../../base/errors.ts";
import { QmpClient } from "../../../node.ts";
import type { TypeOf } from "../../../wire/qapi/index.ts";
import { printable, printableMessage } from "../../printable.ts";
import { programName } from "../../program.ts";
import { Refusal } from "../../refusal.ts";
import { parseBytes } from "../../units.ts";
import { misuse } from "../../usage.ts";
import type { JobAction } from "./actions.ts";
import { jobRows, jobTable } from "./table.ts";
import { watchJob } from "./watch.ts";

/** Options of the verb. */
export interface JobVerbFlags {
  qmp: string;
  json?: boolean;
  force?: boolean;
}

/** What is asked for. */
export interface JobRequest {
  action: JobAction;
  job: string | undefined;
  speed: string | undefined;
}

/** Carries it out; resolves with the exit status. */
export async function runJobVerb(request: JobRequest, flags: JobVerbFlags): Promise<number> {
  try {
    checkWords(request);
    await using client = await QmpClient.connect(addressOf(flags.qmp));
    return await carryOut(client, request, flags);
  } catch (error) {
    process.stderr.write(`${programName()}: ${printableMessage(messageOf(error))}\n`);
    return error instanceof Refusal ? (error.status ?? 1) : 1;
  }
}

/** A path is the path of a Unix socket. */
function addressOf(text: string): string {
  return /^(unix|tcp):/.test(text) ? text : `unix:${text}`;
}

function checkWords({ action, job, speed }: JobRequest): void {
  const isOfAll = action === "list" || action === "events";
  if (isOfAll && job !== undefined) throw misuse(`Unexpected argument: ${job}`);
  if (!isOfAll && job === undefined) throw misuse("Expecting the id of a job");
  if (action !== "set-speed" && speed !== undefined) throw misuse(`Unexpected argument: ${speed}`);
  if (action === "set-speed" && (speed === undefined || parseBytes(speed) === undefined))
    throw misuse("Expecting a speed in bytes per second: 0, 64k, 10M");
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

async function carryOut(
  client: QmpClient,
  { action, job: id = "", speed = "" }: JobRequest,
  flags: JobVerbFlags,
): Promise<number> {
  const isJson = flags.json ?? false;
  switch (action) {
    case "list":
      await list(client, isJson);
      return 0;
    case "watch":
      return watchJob(client, id, { isJson });
    case "events":
      for await (const event of client.events()) print(printable(JSON.stringify(event)));
      return 0;
    case "cancel":
      await cancel(client, id, flags.force ?? false);
      return 0;
    case "set-speed":
      await client.execute("block-job-set-speed", { device: id, speed: parseBytes(speed) ?? 0 });
      return 0;
    default:
      await client.execute(`job-${action}`, { id });
      return 0;
  }
}

async function list(client: QmpClient, isJson: boolean): Promise<void> {
  const rows = await jobRows(client);
  if (isJson) for (const row of rows) print(printable(JSON.stringify(row)));
  else if (rows.length > 0) process.stdout.write(printable(jobTable(rows)));
}

/** A mirror that is ready is left where it is, unless it is to go at once; jobs that are none of blocks know no such thing. */
async function cancel(client: QmpClient, id: string, force: boolean): Promise<void> {
  try {
    await client.execute("block-job-cancel", { device: id, force });
  } catch (error) {
    if (!(error instanceof CommandError) || error.qmpClass !== "DeviceNotActive") throw error;
    const others: TypeOf<"JobInfo">[] = await client.execute("query-jobs");
    if (!others.some((job) => job.id === id)) throw error;
    await client.execute("job-cancel", { id });
  }
}
