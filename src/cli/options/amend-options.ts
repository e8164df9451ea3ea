/**
 * The options of `amend -o`: how they are read and which member of the driver's options each becomes.
 * Source: behaviour and words of qemu-img 7.2.
 */
import type { DriverType } from "../../block/model/contract.ts";
import { checkValue, optionLines, putWire, splitOptions, wireValue } from "./rows.ts";
import { Refusal } from "../refusal.ts";

function rowsOf({ name, amendOptions }: DriverType): NonNullable<DriverType["amendOptions"]> {
  if (!amendOptions) throw new Refusal(`Format driver '${name}' does not support option amendment`);
  return amendOptions;
}

/** The options of a format, as text. Throws Refusal for formats without any. */
export function amendHelp(type: DriverType): string {
  return `Amend options for '${type.name}':\n${optionLines(rowsOf(type))}`;
}

/** What the lists of `-o` change, as amend() takes it. Throws Refusal in QEMU's words. */
export function amendChanges(type: DriverType, lists: readonly string[]): Record<string, unknown> {
  const rows = rowsOf(type);
  const changes: Record<string, unknown> = {};
  for (const [name, value] of lists.flatMap((list) => splitOptions(list, (flag) => [flag, "on"]))) {
    const row = rows.find((candidate) => candidate.name === name);
    if (!row) throw unknown(type, name);
    checkValue(row, value);
    putWire(changes, row.wire ?? name, wireValue(row, value, "amend"));
  }
  return changes;
}

function unknown({ createOptions = [] }: DriverType, name: string): Refusal {
  const only = createOptions.some((row) => row.name === name);
  return new Refusal(
    `Invalid parameter '${name}'${only ? "\nThis option is only supported for image creation" : ""}`,
  );
}
