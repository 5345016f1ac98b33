/* Says what getaddrinfo of the C library that it is linked with says for names: a line each, with the name and its first IPv4 address,
 * or - where there is none. The tests link it with musl, whose resolver asks every nameserver at once and reads resolv.conf anew. */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

int main(int argc, char **argv) {
	for (int i = 1; i < argc; i++) {
		struct addrinfo hints, *found = NULL;
		char text[INET_ADDRSTRLEN] = "-";
		memset(&hints, 0, sizeof hints);
		hints.ai_family = AF_INET;
		hints.ai_socktype = SOCK_STREAM;
		int code = getaddrinfo(argv[i], NULL, &hints, &found);
		if (code != 0)
			fprintf(stderr, "%s: %s\n", argv[i], gai_strerror(code));
		else
			inet_ntop(AF_INET, &((struct sockaddr_in *)found->ai_addr)->sin_addr, text, sizeof text);
		printf("%s %s\n", argv[i], text);
		if (found)
			freeaddrinfo(found);
	}
	return 0;
}
