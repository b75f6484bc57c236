// The page of new credentials: copy buttons, and an address whose reload does not repeat the form that made them.
"use strict";

const page = document.querySelector(".shown-once");
history.replaceState(null, "", page.dataset.continueUrl);

for (const section of page.querySelectorAll(".credential")) {
  const input = section.querySelector("input");
  const button = section.querySelector("button.copy");
  const words = button.textContent;
  button.hidden = false;
  input.addEventListener("focus", () => input.select());
  button.addEventListener("click", async () => {
    input.select();
    try {
      await navigator.clipboard.writeText(input.value);
    } catch {
      document.execCommand("copy"); // pages without HTTPS have no clipboard API
    }
    button.textContent = button.dataset.copied;
    setTimeout(() => { button.textContent = words; }, 2000);
  });
}
