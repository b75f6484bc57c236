// Every word that the page says, in English and Chinese.

const KEY = 'messagecore.demo.language';

const STRINGS = {
  en: {
    page: 'MessageCore demo',
    language: '中文',
    languageLabel: '切换到中文',
    apiDocs: 'API docs',
    admin: 'Admin',
    sideBySide: 'Two side by side',
    ownTab: 'Open this user in a tab of its own',
    actingAs: 'Acting as',
    whatsHappening: "What's happening",
    whatsHappeningHint: 'Requests and frames of this page as they pass, newest first. Keys and tokens are cut short.',
    clear: 'Clear',
    close: 'Close',
    back: 'Back to the conversations',
    conversations: 'Conversations',
    noConversations: 'No conversations yet. Start one with ＋.',
    newChat: 'New conversation',
    with: 'With',
    groupTitle: 'Title (for a group)',
    cancel: 'Cancel',
    create: 'Create',
    messages: 'Messages',
    noMessages: 'No messages yet. Say hello!',
    message: 'Message',
    send: 'Send',
    older: 'Earlier messages',
    loading: 'Loading…',
    loadFailed: 'Could not be loaded. Try again',
    toNewest: 'New messages ↓',
    toBottom: 'To the newest ↓',
    you: 'You',
    someone: 'Someone',
    group: 'Group',
    sending: 'Sending…',
    waitsForConnection: 'Goes out when connected',
    sent: 'Sent',
    readBy: 'Read by {names}',
    retry: 'Try again',
    discard: 'Discard',
    edited: 'edited',
    deleted: 'This message was deleted',
    notShown: '[{type}]',
    isTyping: '{name} is typing…',
    areTyping: '{name} and {other} are typing…',
    manyTyping: 'Several people are typing…',
    typing: 'typing…',
    members: '{count} members',
    unread: '{count} unread',
    online: 'online',
    away: 'away',
    offline: 'offline',
    unknown: 'unknown',
    stateConnecting: 'Connecting…',
    stateOnline: 'Connected',
    stateWaiting: 'Reconnecting in {seconds} s',
    stateRefused: 'Refused',
    stateStopped: 'Not connected',
    connectNow: 'Now',
    refused: 'The server refuses the connection: {message} ({code})',
    notLoaded: 'The conversations could not be loaded, trying again: {message} ({code})',
    from: '{name}: {text}',
    today: 'Today',
    yesterday: 'Yesterday',
  },
  zh: {
    page: 'MessageCore 演示',
    language: 'English',
    languageLabel: 'Switch to English',
    apiDocs: 'API 文档',
    admin: '管理后台',
    sideBySide: '并排显示两人',
    ownTab: '在新标签页中打开此用户',
    actingAs: '当前用户',
    whatsHappening: '实时通信',
    whatsHappeningHint: '本页收发的请求与数据帧，最新的在最上面；密钥与令牌已截短。',
    clear: '清空',
    close: '关闭',
    back: '返回会话列表',
    conversations: '会话',
    noConversations: '还没有会话，点击 ＋ 发起一个。',
    newChat: '新建会话',
    with: '成员',
    groupTitle: '标题（群聊）',
    cancel: '取消',
    create: '创建',
    messages: '消息',
    noMessages: '还没有消息，打个招呼吧！',
    message: '输入消息',
    send: '发送',
    older: '更早的消息',
    loading: '加载中…',
    loadFailed: '加载失败，点击重试',
    toNewest: '有新消息 ↓',
    toBottom: '回到最新 ↓',
    you: '我',
    someone: '某人',
    group: '群聊',
    sending: '发送中…',
    waitsForConnection: '连接后自动发送',
    sent: '已发送',
    readBy: '已读：{names}',
    retry: '重试',
    discard: '放弃',
    edited: '已编辑',
    deleted: '此消息已删除',
    notShown: '[{type}]',
    isTyping: '{name} 正在输入…',
    areTyping: '{name} 和 {other} 正在输入…',
    manyTyping: '多人正在输入…',
    typing: '正在输入…',
    members: '{count} 位成员',
    unread: '{count} 条未读',
    online: '在线',
    away: '离开',
    offline: '离线',
    unknown: '未知',
    stateConnecting: '正在连接…',
    stateOnline: '已连接',
    stateWaiting: '{seconds} 秒后重新连接',
    stateRefused: '连接被拒绝',
    stateStopped: '未连接',
    connectNow: '立即重连',
    refused: '服务器拒绝连接：{message}（{code}）',
    notLoaded: '会话加载失败，正在重试：{message}（{code}）',
    from: '{name}：{text}',
    today: '今天',
    yesterday: '昨天',
  },
};

function chosen() {
  try {
    const kept = localStorage.getItem(KEY);
    if (kept in STRINGS) return kept;
  } catch {
    // Then what the browser asks for.
  }
  return document.documentElement.lang.startsWith('zh') ? 'zh' : 'en';
}

export const language = chosen();

/** The browser's own variant of the page's language, for dates. */
export const locale =
  navigator.languages.find((tag) => tag.split('-')[0] === language) ?? (language === 'zh' ? 'zh-CN' : 'en');

export function switchLanguage() {
  localStorage.setItem(KEY, language === 'zh' ? 'en' : 'zh');
  location.reload();
}

/** The text of a key, `{name}` replaced by the value of that name. */
export function t(key, values = {}) {
  return STRINGS[language][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Fills in what the page's markup leaves to the language. */
export function translate(root) {
  for (const node of root.querySelectorAll('[data-text]')) node.textContent = t(node.dataset.text);
  for (const node of root.querySelectorAll('[data-label]')) node.setAttribute('aria-label', t(node.dataset.label));
  for (const node of root.querySelectorAll('[data-title]')) node.title = t(node.dataset.title);
  for (const node of root.querySelectorAll('[data-placeholder]')) node.placeholder = t(node.dataset.placeholder);
}
