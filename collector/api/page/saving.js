// @ts-check
// The dialog that saves a view.

import { at } from "./parts.js";
import { saveView } from "./saved.js";

/** Ask for a name and save the address as it is. */
export function askToSave(title) {
  at("save-name").value = title.replace(/ · Sidespan$/, "");
  at("save-message").textContent = "";
  at("save").showModal();
  at("save-name").select();
}

at("save-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const isSaved = saveView(at("save-name").value.trim(), location.hash || "#/");
  if (isSaved) at("save").close();
  else at("save-message").textContent = "Not saved: this browser stores nothing for the page.";
});
for (const button of document.querySelectorAll("dialog .close"))
  button.addEventListener("click", () => button.closest("dialog")?.close());
