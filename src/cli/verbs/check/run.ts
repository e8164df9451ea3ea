/**
 * The verb `check`: the library's check(), told as qemu-img tells it. Exit status: 0 fine, 1 the check failed, 2 errors,
 * 3 leaks only, 63 the format has no check.
 */
import { printable } from "../../printable.ts";
import type { NodeSpec } from "../../../block/model/contract.ts";
import { checkIn } from "../../../api/check.ts";
import type { CheckReport, OpenSpec } from "../../../node.ts";
import { checkRefusal, exitStatus, humanReport, jsonReport } from "./report.ts";
import { describeImage } from "../../images.ts";
import { cacheMode } from "../../options/engine.ts";
import { checkOutput, Refusal, notOpened } from "../../refusal.ts";
import { misuse } from "../../usage.ts";
import { Run } from "../../run.ts";
import type { ImageVerbFlags } from "../../options/verb-flags.ts";

/** Options of the verb. */
export interface CheckFlags extends ImageVerbFlags {
  output: string;
  repair?: string;
  cache?: string;
}

/** Runs the verb; resolves with the exit status. */
export function check(files: readonly string[], flags: CheckFlags): Promise<number> {
  return new Run(flags).carryOut(async (verb) => {
    const { repair, format, imageOpts, forceShare } = flags;
    if (repair !== undefined && repair !== "leaks" && repair !== "all")
      throw misuse(`Unknown option value for -r (expecting 'leaks' or 'all'): ${repair}`);
    checkOutput(flags.output);
    const [file] = files;
    if (file === undefined || files.length > 1) throw misuse("Expecting one image file name");
    const cache = flags.cache === undefined ? undefined : cacheMode(flags.cache, "source cache");
    const share = forceShare ? { "force-share": true } : {};
    const spec = await opening(file, async () => ({
      ...(await describeImage(verb, file, { format, imageOpts, forceShare, warn: repair !== undefined })),
      ...share,
      ...(cache ? { cache: { ...cache } } : {}),
    }));
    const { engine, signal } = verb;
    try {
      const report = await checkIn(engine, spec as OpenSpec, {
        signal,
        ...(repair ? { repair } : {}),
        onMessage: (text) => process.stderr.write(`${printable(text)}\n`),
      });
      return tell(verb, { file, format: spec.driver, report }, flags);
    } catch (error) {
      throw refusalOf(error, file);
    }
  });
}

async function opening(file: string, body: () => Promise<NodeSpec>): Promise<NodeSpec> {
  try {
    return await body();
  } catch (error) {
    if (error instanceof Refusal) throw error;
    throw new Refusal(notOpened(file, error));
  }
}

function refusalOf(error: unknown, file: string): unknown {
  const refusal = checkRefusal(error, file);
  return refusal ? new Refusal(refusal.words, refusal.status) : error;
}

interface Told {
  file: string;
  format: string;
  report: CheckReport;
}

function tell(verb: Run, { file, format, report }: Told, flags: CheckFlags): number {
  const { leaksFixed, corruptionsFixed } = report;
  const json = flags.output === "json";
  if (leaksFixed + corruptionsFixed > 0 && !json) {
    verb.say(
      `The following inconsistencies were found and repaired:\n\n    ${leaksFixed} leaked clusters\n` +
        `    ${corruptionsFixed} corruptions\n\nDouble checking the fixed image now...`,
    );
  }
  verb.say(json ? jsonReport(report, { filename: file, format }) : humanReport(report));
  if (report.checkErrors > 0) throw new Refusal("Check failed");
  return exitStatus(report);
}
