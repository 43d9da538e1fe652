/* What a visitor has chosen in this browser, kept for the next visit: devices, push to talk, light or dark. It holds nothing
   of who they are or what they say, and never leaves the browser. */

const name = (choice) => `lkmongo.${choice}`;

/** The choice, or "" where there is none or the browser keeps nothing. */
export function chosen(choice) {
  try {
    return localStorage.getItem(name(choice)) || "";
  } catch {
    return "";
  }
}

/** Keep a choice; "" is to have none. */
export function choose(choice, value) {
  try {
    if (value) localStorage.setItem(name(choice), value);
    else localStorage.removeItem(name(choice));
  } catch {
    // A browser that keeps nothing asks again the next time.
  }
}
