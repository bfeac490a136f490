/* Asks the C library for the addresses of each name, as any program does. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>

int main(int count, char **names) {
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    for (int at = 1; at < count; at++) {
        struct addrinfo *found;
        char text[INET_ADDRSTRLEN];
        int error = getaddrinfo(names[at], NULL, &hints, &found);
        printf("%s:", names[at]);
        if (error) {
            puts(error == EAI_NONAME ? " not found" : gai_strerror(error));
            continue;
        }
        for (struct addrinfo *one = found; one; one = one->ai_next)
            printf(" %s", inet_ntop(AF_INET, &((struct sockaddr_in *)one->ai_addr)->sin_addr, text, sizeof text));
        puts("");
        freeaddrinfo(found);
    }
}
