/** Why a branch is taken by no test that was counted. */

/** Text of the branch's line, and the reason. The first that matches counts. */
const REASONS: readonly (readonly [file: RegExp, text: RegExp, reason: string])[] = [
  [
    /./,
    /instanceof|isUnsupported\(|errnoOf\(error\) !==/,
    "Passes on an error of another kind than the one that is expected there",
  ],
  [
    /./,
    /limits\.|EFBIG|maxRefcount|maxCount|2 \*\* 64n/,
    "Limits that take disks or tables of terabytes, or billions of references",
  ],
  [
    /copy\/(file-copier|still-files|pieces)|copy-range|copy-segment|stream-range|streamed\.ts/,
    /./,
    "Copies within the host's file system, and images that are written as a stream: depends on what the host's files can",
  ],
  [/./, /recover|Recover|overwritten|#failure|broken/, "Recovery after a flush that failed"],
  [/./, /hasSubscribers|tell\(/, "Somebody looks on by Node's diagnostics channels"],
  [
    /./,
    /isPromise|\.then\(|waitSerialising|loading !== loading|activeFlush === active/,
    "Depends on whether an answer is there at once, or on who else works on the node at that moment",
  ],
  [/./, /\?\?|\?\.\(/, "A default for what is always given there, or what only other drivers leave out"],
  [/encryption|crypto|vm-state/, /./, "Encrypted images"],
  [/reopen\.ts/, /iothread|differs/, "Iothreads, which the machine alone has"],
  [/\/check\//, /./, "Damage that a check finds beside other damage"],
  [/src\/job\//, /./, "An order of events in a job that no test has met"],
  [
    /./,
    /^(if|else if|while|for) |return undefined|continue|break/,
    "One side of a guard that no test has met",
  ],
];

/** The reason for a branch of a line. */
export function reasonFor(file: string, text: string): string {
  return REASONS.find(([name, line]) => name.test(file) && line.test(text))?.[2] ?? "Not tested yet";
}
