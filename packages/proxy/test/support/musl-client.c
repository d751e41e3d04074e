// Prints a server's first words: HOST PORT. Its resolver is the C library's.
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv) {
  struct addrinfo *found, hints = {.ai_socktype = SOCK_STREAM};
  int error = argc == 3 ? getaddrinfo(argv[1], argv[2], &hints, &found) : EAI_FAIL;
  if (error) return fprintf(stderr, "%s\n", gai_strerror(error)), 1;
  int fd = socket(found->ai_family, SOCK_STREAM, 0);
  if (connect(fd, found->ai_addr, found->ai_addrlen)) return perror("connect"), 1;
  char banner[99];
  ssize_t length = read(fd, banner, sizeof banner);
  return length <= 0 || write(1, banner, length) != length;
}
