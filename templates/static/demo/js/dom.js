// Making and updating elements. Text is always text: nothing here, or above it, parses markup.

export function make(tag, className = '', text = '') {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
}

/** Sets text only where it differs, so that selections and screen readers are left in peace. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Makes the children of `parent` stand for `items`, in order: elements of known keys are kept and moved, others made,
 * those left over removed. No two items may have the same key. `create(item)` gives an element, `update(element, item)` brings it up to date.
 */
export function reconcile(parent, items, { keyOf, create, update }) {
  const left = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let next = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let node = left.get(key);
    if (node) left.delete(key);
    else {
      node = create(item);
      node.dataset.key = key;
    }
    update(node, item);
    if (node === next) next = next.nextElementSibling;
    else parent.insertBefore(node, next);
  }
  for (const node of left.values()) node.remove();
}

// White letters are readable on all of these.
const HUES = [212, 262, 328, 12, 158, 190, 284, 236];

function hueOf(id) {
  let sum = 0;
  for (const character of id) sum = (sum * 31 + character.codePointAt(0)) % 9973;
  return HUES[sum % HUES.length];
}

function initialsOf(name) {
  const words = name.split(/[^\p{L}\p{N}]+/u).filter(Boolean);
  const [first, last] = [words[0] ?? '?', words.at(-1) ?? '?'].map((word) => [...word][0].toUpperCase());
  // 王芳 is one glyph, Alice Li two letters; a mix of scripts looks like neither.
  const isPlain = /^\p{Script=Latin}{2}$/u.test(first + last);
  return words.length > 1 && isPlain ? first + last : first;
}

/** A picture of somebody, or their initials on a colour that `id` decides. */
export function avatar({ id, name, url = null }) {
  const node = make('span', 'avatar', initialsOf(name));
  node.setAttribute('aria-hidden', 'true');
  node.style.setProperty('--hue', hueOf(id));
  if (url && /^https?:/.test(url)) {
    const picture = make('img');
    picture.alt = '';
    picture.referrerPolicy = 'no-referrer';
    picture.addEventListener('error', () => picture.remove());
    picture.src = url;
    node.append(picture);
  }
  return node;
}
