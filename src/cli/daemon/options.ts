/** The daemon's options, as node:util's parseArgs takes them. */

/** By name, without the dashes. */
export const options = {
  blockdev: { type: "string", multiple: true },
  object: { type: "string", multiple: true },
  chardev: { type: "string", multiple: true },
  monitor: { type: "string", multiple: true },
  export: { type: "string", multiple: true },
  "nbd-server": { type: "string", multiple: true },
  "nbd-websocket": { type: "string" },
  dashboard: { type: "string" },
  metrics: { type: "string" },
  pidfile: { type: "string" },
  daemonize: { type: "boolean" },
  "allow-plain-tcp": { type: "boolean" },
  "allow-tcp-monitor": { type: "boolean" },
  gate: { type: "string" },
  compat: { type: "string" },
  "strict-error-policy": { type: "boolean" },
  version: { type: "boolean", short: "V" },
  help: { type: "boolean", short: "h" },
} as const;

/** Options whose value may be left out, which is the next word then only if it is no option. */
const WITHOUT_VALUE = /^--(dashboard|metrics|nbd-websocket)$/;

/** The words with the values that were left out. */
export function withDefaults(args: readonly string[], value: string): string[] {
  return args.flatMap((word, at) => {
    const next = args[at + 1];
    return WITHOUT_VALUE.test(word) && (next === undefined || next.startsWith("-"))
      ? [`${word}=${value}`]
      : [word];
  });
}
