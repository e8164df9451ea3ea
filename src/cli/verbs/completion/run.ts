/**
 * Completions for bash, zsh and fish, written from the table of options: verbs, the verb's options, the values of an option
 * that has few, and file names for the rest.
 */
import type { OptionEntry, ProgramTable, VerbEntry } from "../../options/table.ts";
import { firstWords, withValues } from "./values.ts";

/** A word that any shell takes as it stands. */
function quote(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

function names({ short, long }: OptionEntry): string[] {
  return [short, long].filter((name) => name !== undefined);
}

function bashVerb(verb: VerbEntry, table: ProgramTable): string {
  const { name, options } = verb;
  const first = firstWords(verb, table);
  const values = options
    .filter(({ value, choices }) => value !== undefined && choices.length > 0)
    .map((option) => `        ${names(option).join("|")}) words=${quote(option.choices.join(" "))} ;;`);
  const files = options
    .filter(({ value, choices }) => value !== undefined && choices.length === 0)
    .flatMap((option) => names(option));
  const lines = files.length > 0 ? [...values, `        ${files.join("|")}) return ;;`] : values;
  const all = options.flatMap((option) => names(option)).join(" ");
  return [
    `    ${name})`,
    `      case "$previous" in`,
    ...lines,
    `        ${name}) [[ "$current" == -* ]] && words=${quote(all)} || words=${quote(first.join(" "))} ;;`,
    `        *) [[ "$current" == -* ]] && words=${quote(all)} ;;`,
    "      esac",
    "      ;;",
  ].join("\n");
}

function bash(table: ProgramTable): string {
  const { verbs, options } = table;
  const first = [...verbs.map(({ name }) => name), ...options.flatMap((option) => names(option))];
  return `# bash completion of blockwright. To use it: source <(blockwright completion bash)
_blockwright() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD - 1]}" verb="" words="" i
  for ((i = 1; i < COMP_CWORD; i++)); do
    if [[ "\${COMP_WORDS[i]}" != -* ]]; then verb="\${COMP_WORDS[i]}"; break; fi
  done
  COMPREPLY=()
  case "$verb" in
    "") words=${quote(first.join(" "))} ;;
${verbs.map((verb) => bashVerb(verb, table)).join("\n")}
  esac
  if [[ -n "$words" ]]; then COMPREPLY=($(compgen -W "$words" -- "$current")); fi
  if [[ "\${COMPREPLY[0]-}" == *= ]]; then compopt -o nospace 2>/dev/null; fi
  return 0
}
complete -o default -F _blockwright blockwright
`;
}

function zshOption(option: OptionEntry): string {
  const all = names(option);
  const text = option.description.replaceAll(/[[\]\\]/g, String.raw`\$&`);
  const values = option.choices.length > 0 ? `(${option.choices.join(" ")})` : "_files";
  const value = option.value === undefined ? "" : `:${option.value}:${values}`;
  return all.map((name) => `      ${quote(`*${name}[${text}]${value}`)}`).join(" \\\n");
}

function zsh(table: ProgramTable): string {
  const { verbs } = table;
  const described = verbs.map(
    ({ name, description }) => `    ${quote(`${name}:${description.replaceAll(":", String.raw`\:`)}`)}`,
  );
  const cases = verbs.map((verb) => {
    const { name, options } = verb;
    const first = firstWords(verb, table);
    // Where a file may stand first as well, files are offered.
    const onlyWords = first.length > 0 && (verb.verbs.length === 0 || verb.words.length === 0);
    const words = onlyWords ? `1:word:(${first.join(" ")})` : "*:file:_files";
    const lines = [...options.map((option) => zshOption(option)), `      ${quote(words)}`];
    return `    ${name}) _arguments \\\n${lines.join(" \\\n")} ;;`;
  });
  return `#compdef blockwright
# zsh completion of blockwright. To use it: source <(blockwright completion zsh)
_blockwright() {
  local -a verbs
  verbs=(
${described.join("\n")}
  )
  if (( CURRENT == 2 )); then
    _describe verb verbs
    return
  fi
  local verb=$words[2]
  shift words
  (( CURRENT-- ))
  case $verb in
${cases.join("\n")}
  esac
}
if [[ $funcstack[1] == _blockwright ]]; then _blockwright "$@"; else compdef _blockwright blockwright; fi
`;
}

function fishOption(verb: string, option: OptionEntry): string {
  const words = ["complete", "-c", "blockwright", "-n", quote(`__fish_seen_subcommand_from ${verb}`)];
  if (option.short !== undefined) words.push("-s", option.short.slice(1));
  if (option.long !== undefined) words.push("-l", option.long.slice(2));
  if (option.value !== undefined) words.push(option.choices.length > 0 ? "-x" : "-r");
  if (option.choices.length > 0) words.push("-a", quote(option.choices.join(" ")));
  return [...words, "-d", quote(option.description)].join(" ");
}

function fishWords(verb: VerbEntry, table: ProgramTable): string[] {
  const first = firstWords(verb, table);
  const seen = quote(`__fish_seen_subcommand_from ${verb.name}`);
  return first.length === 0 ? [] : [`complete -c blockwright -f -n ${seen} -a ${quote(first.join(" "))}`];
}

function fish(table: ProgramTable): string {
  const lines = table.verbs.flatMap((verb) => [
    `complete -c blockwright -f -n __fish_use_subcommand -a ${verb.name} -d ${quote(verb.description)}`,
    ...verb.options.map((option) => fishOption(verb.name, option)),
    ...fishWords(verb, table),
  ]);
  return `# fish completion of blockwright. To use it: blockwright completion fish | source\n${lines.join("\n")}\n`;
}

/** The shells that there are completions for. */
export const shells = {
  bash: (table: ProgramTable) => bash(withValues(table)),
  zsh: (table: ProgramTable) => zsh(withValues(table)),
  fish: (table: ProgramTable) => fish(withValues(table)),
} as const;
