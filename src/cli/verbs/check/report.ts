/** The words and the exit status of a check's result, as qemu-img check has them. */
import { stringifyJson } from "../../../wire/qapi/index.ts";
import type { CheckReport } from "../../../api/check.ts";
import { BlockError, CommandError, errnoOf } from "../../../base/errors.ts";
import { strerror } from "../../../base/errno.ts";
import { told, notOpened } from "../../refusal.ts";
import { twoDigits } from "../../options/sizes.ts";

const FAILED = 1;
const NO_CHECK = 63;
const ERRORS_LEFT = 2;
const LEAKS_LEFT = 3;

/** The exit status: 0 fine, 1 questions were left open, 2 errors, 3 leaks only. */
export function exitStatus({ checkErrors, corruptions, leaks }: CheckReport): number {
  if (checkErrors > 0) return FAILED;
  if (corruptions > 0) return ERRORS_LEFT;
  return leaks > 0 ? LEAKS_LEFT : 0;
}

/** What is said, message by message, and the exit status, when a check threw; undefined: that was no error of images. */
export function checkRefusal(error: unknown, file: string): { words: string[]; status: number } | undefined {
  if (!(error instanceof BlockError || error instanceof CommandError)) return undefined;
  if (!(error instanceof BlockError) || error.op !== "check")
    return { words: [notOpened(file, error)], status: FAILED };
  const code = errnoOf(error);
  if (code === "ENOTSUP") return { words: ["This image format does not support checks"], status: NO_CHECK };
  const reason = error.message === strerror(code) ? [] : [`ERROR ${told(error)}`];
  return { words: [...reason, `Check failed: ${strerror(code)}`], status: FAILED };
}

/** What `qemu-img check` prints for people. */
export function humanReport(report: CheckReport): string {
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

/** What it prints as JSON. */
export function jsonReport(report: CheckReport, names: { filename: string; format: string }): string {
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
  return stringifyJson(object, 4);
}
