/**
 * Character devices as `-qmp`, `-monitor`, `-serial` and `-qtest` name them in one word: `stdio`, `unix:PATH,server,nowait`,
 * `chardev:ID`, `none`, `null`. Source: behaviour of QEMU 7.2's qemu_chr_parse_compat.
 */
import { type ChardevOptions, parseChardev, QapiError } from "../../wire/qapi/index.ts";

/** A device to be made, one that is there already by its id, or nothing. */
export type NamedChardev =
  | { readonly kind: "new"; readonly options: ChardevOptions }
  | { readonly kind: "known"; readonly id: string }
  | { readonly kind: "none" };

/** Reads such a word; `id` names a device that is made. Throws QapiError. */
export function readChardev(text: string, id: string): NamedChardev {
  if (text === "none") return { kind: "none" };
  if (text.startsWith("chardev:")) return { kind: "known", id: text.slice("chardev:".length) };
  const made = (words: string): NamedChardev => ({ kind: "new", options: parseChardev(words) });
  if (text === "stdio" || text === "null" || text === "vc" || text.startsWith("vc:"))
    return made(`${text.startsWith("vc") ? "null" : text},id=${id}`);
  if (text === "mon:stdio") return made(`stdio,id=${id}`);
  const unix = /^unix:(path=)?(.*)$/s.exec(text);
  if (unix) return made(`socket,id=${id},path=${unix[2]}`);
  const tcp = /^tcp:([^:]*):([0-9]+)(.*)$/.exec(text);
  if (tcp) return made(`socket,id=${id},host=${tcp[1]},port=${tcp[2]}${tcp[3]}`);
  const file = /^file:(.*)$/s.exec(text);
  if (file) return made(`file,id=${id},path=${file[1]}`);
  throw new UnknownChardev(`'${text}' is not a valid char driver`);
}

/** There is no kind of that name. */
export class UnknownChardev extends QapiError {}
