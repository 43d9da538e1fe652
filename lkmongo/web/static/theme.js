/* Light or dark: as the visitor has chosen, else as their system. It runs before the first paint, and so is no module. */
(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const show = () => {
    let theme = "";
    try {
      theme = localStorage.getItem("lkmongo.theme");
    } catch {
      // The browser keeps nothing.
    }
    document.documentElement.dataset.theme = theme || (dark.matches ? "dark" : "light");
    window.dispatchEvent(new Event("theme"));
  };
  dark.addEventListener("change", show);
  window.addEventListener("storage", show); // chosen in another tab
  window.addEventListener("theme-chosen", show);
  show();
})();
