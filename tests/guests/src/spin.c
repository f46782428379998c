/* Never ends and never calls the host. */
int main(void) {
    for (volatile unsigned turns = 0;; turns++) {}
}
