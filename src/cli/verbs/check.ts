/**
 * The verb `check`: the library's check(), told as qemu-img tells it. Exit status: 0 fine, 1 the check failed, 2 errors,
 * 3 leaks only, 63 the format has no check.
 */
import { errnoOf, messageOf } from "../../base/errors.ts";
import { strerror } from "../../base/errno.ts";
import type { NodeSpec } from "../../block/driver.ts";
import { type CheckReport, check as checkImage, type OpenSpec } from "../../node.ts";
import type { CheckFlags } from "../commands/check.ts";
import { twoDigits } from "../sizes.ts";
import { cacheMode, describeSource } from "../sources.ts";
import { checkOutput, Refusal, Verb } from "../verb.ts";

const NO_CHECK = 63;
const ERRORS_LEFT = 2;
const LEAKS_LEFT = 3;

/** Runs the verb; resolves with the exit status. */
export function check(files: readonly string[], flags: CheckFlags): Promise<number> {
  return new Verb(flags).run(async (verb) => {
    const { repair, format, imageOpts, forceShare } = flags;
    if (repair !== undefined && repair !== "leaks" && repair !== "all")
      throw new Refusal(`Unknown option value for -r (expecting 'leaks' or 'all'): ${repair}`);
    checkOutput(flags.output);
    const [file] = files;
    if (file === undefined || files.length > 1) throw new Refusal("Expecting one image file name");
    const cache = flags.cache === undefined ? undefined : cacheMode(flags.cache, "source cache");
    const share = forceShare ? { "force-share": true } : {};
    const spec = await opening(file, async () => ({
      ...(await describeSource(verb, file, { format, imageOpts, forceShare })),
      ...share,
      ...(cache ? { cache: { ...cache } } : {}),
    }));
    const { engine, signal } = verb;
    try {
      const report = await checkImage(spec as OpenSpec, {
        engine,
        signal,
        ...(repair ? { repair } : {}),
        onMessage: (text) => process.stderr.write(`${text}\n`),
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
    throw new Refusal(`Could not open '${file}': ${messageOf(error)}`);
  }
}

function refusalOf(error: unknown, file: string): unknown {
  if (!(error instanceof Error) || !("op" in error)) return error;
  if (error.op === "check") {
    if (errnoOf(error) === "ENOTSUP")
      return new Refusal("This image format does not support checks", NO_CHECK);
    return new Refusal(`Check failed: ${strerror(errnoOf(error))}`);
  }
  return new Refusal(`Could not open '${file}': ${error.message}`);
}

interface Told {
  file: string;
  format: string;
  report: CheckReport;
}

function tell(verb: Verb, { file, format, report }: Told, flags: CheckFlags): number {
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
  if (report.corruptions > 0) return ERRORS_LEFT;
  return report.leaks > 0 ? LEAKS_LEFT : 0;
}

function humanReport(report: CheckReport): string {
  const { corruptions, leaks, checkErrors, allocatedClusters, totalClusters } = report;
  const lines: string[] = [];
  if (corruptions + leaks + checkErrors === 0) lines.push("No errors were found on the image.");
  if (corruptions > 0) {
    lines.push("", `${corruptions} errors were found on the image.`);
    lines.push("Data may be corrupted, or further writes to the image may corrupt it.");
  }
  if (leaks > 0) {
    lines.push("", `${leaks} leaked clusters were found on the image.`);
    lines.push("This means waste of disk space, but no harm to data.");
  }
  if (checkErrors > 0) lines.push("", `${checkErrors} internal errors have occurred during the check.`);
  if (totalClusters > 0 && allocatedClusters > 0) {
    const percent = (part: number, whole: number): string => twoDigits((part * 100) / whole);
    lines.push(
      `${allocatedClusters}/${totalClusters} = ${percent(allocatedClusters, totalClusters)}% allocated, ` +
        `${percent(report.fragmentedClusters, allocatedClusters)}% fragmented, ` +
        `${percent(report.compressedClusters, allocatedClusters)}% compressed clusters`,
    );
  }
  if (report.imageEndOffset > 0) lines.push(`Image end offset: ${report.imageEndOffset}`);
  return lines.join("\n");
}

function jsonReport(report: CheckReport, names: { filename: string; format: string }): string {
  const some = (name: string, count: number): object => (count > 0 ? { [name]: count } : {});
  const object = {
    ...some("image-end-offset", report.imageEndOffset),
    ...some("total-clusters", report.totalClusters),
    ...some("corruptions", report.corruptions),
    "check-errors": report.checkErrors,
    ...some("corruptions-fixed", report.corruptionsFixed),
    ...some("leaks", report.leaks),
    ...some("leaks-fixed", report.leaksFixed),
    ...some("allocated-clusters", report.allocatedClusters),
    ...some("compressed-clusters", report.compressedClusters),
    ...some("fragmented-clusters", report.fragmentedClusters),
    ...names,
  };
  return JSON.stringify(object, undefined, 4);
}
