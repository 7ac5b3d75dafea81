{
  // A tab whose session has ended is refused what it asks for first when it connects anew, and would only say so: the
  // page itself leads to the login, and from there back.
  const ask = window.fetch
  window.fetch = async (...asked) => {
    const answer = await ask(...asked)
    if (answer.status === 401 && new URL(answer.url).pathname.endsWith("/_stcore/host-config")) location.reload()
    return answer
  }
}
