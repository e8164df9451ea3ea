/** The daemon's options, as node:util's parseArgs takes them. */

/** By name, without the dashes. */
export const options = {
  blockdev: { type: "string", multiple: true },
  object: { type: "string", multiple: true },
  chardev: { type: "string", multiple: true },
  monitor: { type: "string", multiple: true },
  export: { type: "string", multiple: true },
  "nbd-server": { type: "string", multiple: true },
  pidfile: { type: "string" },
  daemonize: { type: "boolean" },
  "allow-plain-tcp": { type: "boolean" },
  gate: { type: "string" },
  compat: { type: "string" },
  "strict-error-policy": { type: "boolean" },
  version: { type: "boolean", short: "V" },
  help: { type: "boolean", short: "h" },
} as const;
