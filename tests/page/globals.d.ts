// uplot.js, which the page loads before its own modules
declare const uPlot: any;
