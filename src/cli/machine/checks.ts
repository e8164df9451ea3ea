/**
 * What is wrong with options that ask for nothing here: they are taken as QEMU takes them, and refused in its words.
 * Source: behaviour of QEMU 7.2.
 */
import { optionPairs, shortWords } from "./opts.ts";

/** Keys with the types of their values; a first one after `=` is the value of a word without a key. Of what stands before a dot messages name it. */
const shapes: Readonly<Record<string, string>> = {
  m: "=size:size slots:number maxmem:size",
  name: "=guest process debug-threads:bool",
  msg: "timestamp:bool guest-name:bool",
  overcommit: "mem-lock:bool cpu-pm:bool",
  sandbox: "=enable:bool obsolete elevateprivileges spawn resourcecontrol",
  rtc: "base:date clock:host|rt|vm driftfix:slew|none",
  action: `reboot:!reset|shutdown shutdown:!poweroff|pause panic:!none|pause|shutdown|exit-failure
    watchdog:!reset|shutdown|poweroff|pause|debug|none|inject-nmi`,
  smp: "smp.=cpus:int sockets:int dies:int clusters:int cores:int threads:int maxcpus:int",
  boot: `boot.=order:drives once:drives menu:bool strict:bool splash splash-time:int reboot-timeout:int`,
};

const sizeWords = `expects a non-negative number below 2^64
Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-
and exabytes, respectively.`;

/** How values look, and what is said of others: of the key, or, if there is no blank before it, of the value. */
const types: Readonly<Record<string, readonly [RegExp, string]>> = {
  bool: [/^(on|off|yes|no|true|false|y|n)$/, " expects 'on' or 'off'"],
  number: [/^(0x[0-9a-f]+|[0-9]+)$/i, " expects a number"],
  int: [/^-?[0-9]+$/, " expects integer"],
  size: [/^[0-9]+(\.[0-9]+)?[bkmgtpe]?$/i, ` ${sizeWords}`],
  date: [
    /^(utc|localtime|\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d)?)$/,
    "invalid datetime format\nvalid formats: '2006-06-17T16:01:21' or '2006-06-17'",
  ],
  drives: [/^[a-p]*$/, "Invalid boot device '?'"],
};

/** Whole values. */
const values: Readonly<Record<string, readonly [RegExp, string]>> = {
  uuid: [
    /^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/i,
    " -uuid ?: failed to parse UUID string: wrong format",
  ],
  vga: [/^(none|std|cirrus|vmware|xenfb|qxl|virtio|tcx|cg3)$/, " unknown vga type: ?"],
  accel: [/^((accel=)?(tcg|kvm|qtest|xen)\b.*|help|\?|)$/, " -accel ?: invalid accelerator ?"],
  icount: [/^(shift=)?(auto|[0-9]|10)(,.*)?$/, " -icount ?: icount: Invalid shift value"],
  "watchdog-action": [
    /^(reset|shutdown|poweroff|pause|debug|none|inject-nmi)$/,
    " -watchdog-action ?: Parameter 'watchdog' does not accept value '?'",
  ],
};

/** Options whose value is of the newer kind, which has no empty keys. */
const newer: ReadonlySet<string> = new Set(["smp", "boot", "machine", "M"]);

/** What is wrong with an option's value, as it stands after the program's name and a colon; undefined: nothing that is known of. */
export function wrongValue(name: string, value: string): string | undefined {
  if (newer.has(name) && optionPairs(value).some(([key]) => key === ""))
    return ` -${name} ${value}: Invalid parameter ''`;
  const whole = values[name];
  if (whole) return whole[0].test(value) ? undefined : whole[1].replaceAll("?", value);
  const shape = shapes[name];
  if (shape === undefined) return undefined;
  const [, prefix = "", implied] = /^([a-z]+\.)?(?:=([a-z-]+))?/.exec(shape) ?? [];
  const located = prefix === "" ? ` -${name} ${value}: ` : " ";
  const rows = shape
    .slice(prefix.length)
    .replace("=", "")
    .split(/\s+/)
    .map((row) => row.split(":"));
  for (const [key, text] of optionPairs(value, implied)) {
    const row = rows.find(([its]) => its === key);
    if (!row)
      return `${located}${prefix === "" ? `Invalid parameter '${key}'` : `Parameter '${prefix}${key}' is unexpected`}`;
    const wrong = row[1] === undefined ? undefined : wrongOf(row[1], { key: `${prefix}${key}`, text });
    if (wrong !== undefined) return wrong.startsWith("Parameter") ? located + wrong : ` ${wrong}`;
  }
  return undefined;
}

function wrongOf(type: string, { key, text }: { key: string; text: string }): string | undefined {
  const known = types[type];
  if (known) {
    if (known[0].test(text)) return undefined;
    return known[1].startsWith(" ") ? `Parameter '${key}'${known[1]}` : known[1].replace("?", text);
  }
  if (type.replace("!", "").split("|").includes(text)) return undefined;
  return type.startsWith("!")
    ? `Parameter '${key}' does not accept value '${text}'`
    : `invalid option value '${text}'`;
}

const common = `append boot confidential-guest-support dt-compatible dtb dump-guest-core:bool dumpdtb firmware graphics:bool initrd
  kernel mem-merge:bool memory-backend memory-encryption memory phandle-start smp suppress-vmdesc:bool usb:bool accel type
  kernel_irqchip kernel-irqchip kvm-shadow-mem`;
const ofPc = `acpi bus-lock-ratelimit default-bus-bypass-iommu:bool hpet:bool i8042:bool max-fw-size max-ram-below-4g pic pit
  sata:bool sgx-epc smbios-entry-point-type smbus:bool smm vmport x-oem-id x-oem-table-id`;

/** What is wrong with the properties of a machine of that kind (`pc` or `none`), said without the option. */
export function wrongProperty(
  machine: { kind: "pc" | "none"; type: string },
  pairs: readonly (readonly [string, string])[],
): string | undefined {
  const rows = `${common} ${machine.kind === "pc" ? ofPc : ""}`.split(/\s+/).map((row) => row.split(":"));
  for (const [key, text] of pairs) {
    const row = rows.find(([its]) => its === key.replace(/[.].*/, ""));
    if (!row) return `Property '${machine.type}.${key}' not found`;
    const wrong = row[1] === undefined ? undefined : wrongOf(row[1], { key, text });
    if (wrong !== undefined) return wrong;
    if (key === "accel" && !text.split(":").some((one) => /^(tcg|kvm|qtest|xen)$/.test(one)))
      return `invalid accelerator ${text}`;
  }
  return undefined;
}

/** Options whose value is of the older kind, with the key that a first word without one is the value of. */
const older: Readonly<Record<string, string | undefined>> = {
  ...{ drive: undefined, device: "driver", chardev: "backend", mon: "chardev", global: undefined },
  ...{ name: "guest", m: "size", msg: undefined, rtc: undefined, "add-fd": undefined, accel: "accel" },
};

/** Warnings of words that stand for `on` or `off`, each as it stands after the program's name and a colon. */
export function shortForms(name: string, value: string): string[] {
  if (!Object.hasOwn(older, name) || value.startsWith("{")) return [];
  return shortWords(value, older[name]).map(([word, key, text]) => {
    const words = `-${name} ${value}`;
    return ` ${words}: warning: short-form boolean option '${word}' deprecated\nPlease use ${key}=${text} instead`;
  });
}
