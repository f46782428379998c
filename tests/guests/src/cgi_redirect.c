#include <stdio.h>

int main(void) { return puts("Location: /elsewhere\n") < 0; }
