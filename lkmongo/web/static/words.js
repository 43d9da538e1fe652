/* The page's words, in the language in which the server sent the page (words.json), and what depends on a language. */

const WORDS = JSON.parse(document.getElementById("words").textContent);
const LANGUAGE = document.documentElement.lang || "en";
const plurals = new Intl.PluralRules(LANGUAGE);

/** What the operator has set: name, color, logo, greeting, examples. */
export const PAGE = JSON.parse(document.getElementById("page").textContent);

/** The words of a key; `{name}` in them stands for a value. */
export function word(key, values = {}) {
  return (WORDS[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}

export const has = (key) => key in WORDS;

/** As `word`, in the form for so many: `key_one`, `key_other`. */
export function counted(key, count) {
  return word(`${key}_${plurals.select(count)}`, { count: count.toLocaleString(LANGUAGE) });
}

export const moment = (time) => new Date(time).toLocaleString(LANGUAGE, { dateStyle: "medium", timeStyle: "short" });

/** How long, for people: from seconds. */
export function duration(seconds) {
  const minutes = Math.floor(seconds / 60);
  return minutes ? word("minutes", { minutes, seconds: Math.floor(seconds % 60) }) : word("seconds", { seconds: Math.floor(seconds) });
}
